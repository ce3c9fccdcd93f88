//! What headers of HTTP hold that has no look of its own: `Authorization`, `Cookie`, `Set-Cookie` (RFC 6265).

use super::assigned::is_placeholder;
use super::{Span, looks_random, run};

/// A shorter cookie is a setting.
const COOKIE_MIN_BYTES: usize = 6;

/// `Bearer …`, `Basic …`, or whatever else the header has.
pub(super) fn authorization(bytes: &[u8], start: usize, end: usize, quoted: bool) -> Option<Span<'static>> {
    let end = if quoted { end } else { start + run(bytes, start, is_of_line) };
    let text = bytes.get(start..end)?;
    let scheme = text.iter().position(|byte| *byte == b' ').filter(|at| (3..=16).contains(at));
    let at = start + scheme.map_or(0, |at| at + 1);
    let secret =
        run(bytes, at, |byte| !byte.is_ascii_whitespace() && !b"\"'`\\,".contains(&byte)).min(end.saturating_sub(at));
    let text = bytes.get(at..at + secret)?;
    let least = if scheme.is_some() { 6 } else { 16 };
    let is_code = text.iter().any(|byte| matches!(byte, b'(' | b'[')) || text.windows(3).any(|window| window == b"://");
    let fits = secret >= least && looks_random(text) && !is_placeholder(text) && !is_code;
    fits.then_some(Span { start: at, end: at + secret, kind: "authorization" })
}

fn is_of_line(byte: u8) -> bool {
    !matches!(byte, b'\n' | b'\r' | b'"' | b'\'' | b'`' | b'\\')
}

/// `name=value; name=value`: from the first value that may be a secret to the last one, or that one alone where the rest are
/// attributes (`only_first`).
pub(super) fn cookies(bytes: &[u8], start: usize, only_first: bool) -> Option<Span<'static>> {
    let mut found: Option<Span<'static>> = None;
    let mut at = start;
    loop {
        let name = run(bytes, at, |byte| byte.is_ascii_alphanumeric() || b"_-.%~!#$&*+^".contains(&byte));
        if name == 0 || bytes.get(at + name) != Some(&b'=') {
            return found;
        }
        let value = at + name + 1;
        // Few have quotes around it.
        let quote = value + run(bytes, value, |byte| byte == b'\\');
        let quote = if bytes.get(quote) == Some(&b'"') { quote + 1 - value } else { 0 };
        let from = value + quote;
        let length =
            run(bytes, from, |byte| byte.is_ascii_graphic() && is_of_line(byte) && byte != b';' && byte != b'`');
        let text = bytes.get(from..from + length)?;
        // A comma may end a list that the header is in.
        let length = length - usize::from(text.ends_with(b","));
        let text = text.get(..length)?;
        if length >= COOKIE_MIN_BYTES && !is_placeholder(text) && !text.starts_with(b"<") {
            let begun = found.map_or(from, |span| span.start);
            found = Some(Span { start: begun, end: from + length, kind: "cookie" });
        }
        let next = from + length + quote.min(bytes.len() - from - length);
        if only_first || bytes.get(next) != Some(&b';') {
            return found;
        }
        at = next + 1 + run(bytes, next + 1, |byte| byte == b' ');
    }
}
