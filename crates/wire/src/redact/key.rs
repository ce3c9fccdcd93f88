//! Private keys in PEM, RFC 7468, and of PuTTY (its manual, appendix C): whole, cut off, quoted in JSON, or with the line numbers of a tool before each line.

use super::{Span, run};

const KIND: &str = "private-key";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// The longest word between BEGIN and the dashes.
const LABEL_MAX_BYTES: usize = 48;
/// An RSA key of 16,384 bits has 13 KB; with line numbers and escapes twice that.
const KEY_MAX_BYTES: usize = 64 << 10;

/// At the first dash of a line that begins or ends a private key.
pub(super) fn at_dash(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let here = bytes.get(at..)?;
    if !here.starts_with(DASHES) {
        return None;
    }
    if here.starts_with(BEGIN) {
        let body = at + border(here, BEGIN)?;
        return Some(Span { start: at, end: end_of_key(bytes, body), kind: KIND });
    }
    if here.starts_with(END) {
        let end = at + border(here, END)?;
        return Some(Span { start: at - body_before(bytes, at), end, kind: KIND });
    }
    None
}

const PUTTY_BEGIN: &[u8] = b"Private-Lines: ";
const PUTTY_END: &[u8] = b"Private-MAC: ";

/// At the dash of the line that begins or ends the secret part of PuTTY's file.
pub(super) fn at_putty(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let start = at.checked_sub("Private".len())?;
    let here = bytes.get(start..)?;
    if here.starts_with(PUTTY_END) {
        let body = body_before(bytes, start);
        return (body > 0).then(|| Span { start: start - body, end: end_of_mac(bytes, start), kind: KIND });
    }
    let body = start + putty_border(here)?;
    let rest = bytes.get(body..)?;
    let near = rest.get(..rest.len().min(KEY_MAX_BYTES))?;
    let whole = near.windows(PUTTY_END.len()).position(|window| window == PUTTY_END).filter(|end| {
        let is_between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'\\' | b'|' | b'>' | 0x80..);
        near.get(..*end).is_some_and(|text| text.iter().all(|byte| is_body(*byte) || is_between(byte)))
    });
    let end = whole.map_or_else(|| end_of_body(bytes, body), |end| end_of_mac(bytes, body + end));
    (end > body).then_some(Span { start, end, kind: KIND })
}

fn end_of_mac(bytes: &[u8], at: usize) -> usize {
    let digits = at + PUTTY_END.len();
    digits + run(bytes, digits, |byte| byte.is_ascii_hexdigit())
}

/// The length of `Private-Lines: 14`.
fn putty_border(here: &[u8]) -> Option<usize> {
    let digits = here.starts_with(PUTTY_BEGIN).then(|| run(here, PUTTY_BEGIN.len(), |byte| byte.is_ascii_digit()))?;
    (digits > 0).then_some(PUTTY_BEGIN.len() + digits)
}

/// The length of a border line of a private key.
fn border(here: &[u8], word: &[u8]) -> Option<usize> {
    let label = here.get(word.len()..)?;
    let label = label.get(..label.len().min(LABEL_MAX_BYTES))?;
    let length = label.windows(DASHES.len()).position(|window| window == DASHES)?;
    let is_private = label.get(..length)?.windows(11).any(|window| window == b"PRIVATE KEY");
    is_private.then_some(word.len() + length + DASHES.len())
}

fn end_of_key(bytes: &[u8], body: usize) -> usize {
    let rest = bytes.get(body..).unwrap_or_default();
    let near = rest.get(..rest.len().min(KEY_MAX_BYTES)).unwrap_or_default();
    let ends = near.windows(END.len()).position(|window| window == END);
    if let Some(end) = ends
        && let Some(length) = border(rest.get(end..).unwrap_or_default(), END)
    {
        return body + end + length;
    }
    end_of_body(bytes, body)
}

/// Cut off: as far as it looks like a key.
fn end_of_body(bytes: &[u8], body: usize) -> usize {
    let (mut end, mut at) = (body, body);
    loop {
        at += between(bytes, at);
        let word = run(bytes, at, is_body);
        let text = bytes.get(at..at + word).unwrap_or_default();
        let is_last = end > body && matches!(bytes.get(at + word), None | Some(b'"' | b'\\'));
        if word >= 16 || (word > 0 && (is_last || text.ends_with(b"="))) {
            end = at + word;
        } else if word == 0 || !text.iter().all(u8::is_ascii_digit) {
            return end;
        }
        at += word;
    }
}

fn is_body(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// What stands between the lines of a key, escapes of JSON and arrows and bars of line numbers included.
fn between(bytes: &[u8], at: usize) -> usize {
    let mut length = 0;
    loop {
        let here = bytes.get(at + length..).unwrap_or_default();
        length += match here {
            [b' ' | b'\t' | b'\r' | b'\n' | b'|' | b'>', ..] => 1,
            [b'\\', b'\\', b'n' | b'r' | b't', ..] => 3,
            [b'\\', b'n' | b'r' | b't', ..] => 2,
            // →
            [0xe2, 0x86, 0x92, ..] => 3,
            _ => return length,
        };
    }
}

/// The length of what looks like the end of a key just before its last line.
fn body_before(bytes: &[u8], at: usize) -> usize {
    let before = bytes.get(at.saturating_sub(KEY_MAX_BYTES)..at).unwrap_or_default();
    let mut kept = 0;
    let mut length = 0;
    for line in before.rsplit(|byte| matches!(byte, b'\n' | b'\t' | b' ' | b'\\' | b'\r' | 0x92)) {
        // An escape's letter is the first of the line that follows it.
        let text = line.strip_prefix(b"n").or_else(|| line.strip_prefix(b"t")).unwrap_or(line);
        let is_number = text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, 0xe2 | 0x86 | b'|'));
        let is_line = text.iter().all(|byte| is_body(*byte)) && (text.len() >= 16 || text.ends_with(b"="));
        if !is_number && !is_line {
            // A quote may stand before its first line.
            let rest = line.iter().rev().take_while(|byte| is_body(**byte)).count();
            if rest >= 16 && rest < line.len() {
                kept = length + rest;
            }
            break;
        }
        length += line.len();
        if is_line {
            // Without an escape's letter, which is no part of it.
            kept = length - (line.len() - text.len());
        }
        length += 1;
    }
    kept.min(at)
}

/// What may stand above the key itself: RFC 1421, RFC 9580.
const HEADERS: [&[u8]; 4] = [b"Proc-Type:", b"DEK-Info:", b"Version:", b"Comment:"];

/// A private key that comes line by line, each to be written before the next is known.
#[derive(Debug, Clone, Default)]
pub struct KeyLines {
    inside: bool,
}

impl KeyLines {
    /// Whether this line is of a private key that an earlier line began.
    pub fn is_of_key(&mut self, line: &[u8]) -> bool {
        let was_inside = self.inside;
        let border_at = |word: &[u8]| {
            let at = line.windows(word.len()).position(|window| window == word)?;
            border(line.get(at..)?, word).map(|_| at)
        };
        if border_at(BEGIN).is_some() {
            self.inside = border_at(END).is_none();
            return was_inside;
        }
        if border_at(END).is_some() {
            self.inside = false;
            return was_inside;
        }
        let putty = line.windows(PUTTY_BEGIN.len()).position(|window| window == PUTTY_BEGIN);
        if putty.and_then(|at| putty_border(line.get(at..)?)).is_some() {
            self.inside = true;
            return was_inside;
        }
        let is_header = HEADERS.iter().any(|header| line.starts_with(header));
        let trimmed = line.trim_ascii();
        self.inside = was_inside && (is_header || trimmed.iter().all(|byte| is_body(*byte)));
        self.inside
    }
}
