//! Takes secrets out of what is about to be written: one redactor in front of every log.
//!
//! Owns: what looks like a secret, and the mark that takes its place, `[redacted:KIND]`. May not: keep a secret anywhere, or
//! fail. Known are the keys of the well-known providers by their prefixes and lengths (as the providers and the public rules of
//! secret scanners give them), private keys, JSON web tokens, passwords in URLs and command lines, `Authorization` and `Cookie` headers, what is assigned to
//! a name such as `password` or `api_key`, and the values of secret-looking environment variables.
//!
//! It works on bytes, and the same for plain text and for JSON in which that text is quoted, also twice: a line of JSON stays
//! a line of JSON, and UTF-8 stays UTF-8. Hashes, UUIDs, ids of sessions, images in base64 stay as they are.

mod assigned;
mod command;
mod header;
mod key;
mod tokens;
mod values;

use std::borrow::Cow;

pub use key::KeyLines;
use values::Values;
pub use values::is_secret_name;

/// What is taken out, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span<'a> {
    start: usize,
    end: usize,
    kind: &'a str,
}

/// Knows the values that are secret here, and what secrets look like anywhere.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    values: Values,
}

/// Bytes at which it is worth looking around; all others are passed over.
static TRIGGERS: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"_-.:=zAJKB";
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

impl Redactor {
    /// Knows, too, what these environment variables hold, those with secret-looking names.
    #[must_use]
    pub fn with_environment<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { values: Values::new(variables) }
    }

    /// `bytes` without secrets.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut spans = Vec::new();
        tokens::databricks(bytes, &mut spans);
        shapes(bytes, &mut spans);
        self.values.find(bytes, &mut spans);
        if spans.is_empty() {
            return Cow::Borrowed(bytes);
        }
        spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        Cow::Owned(replace(bytes, &spans))
    }

    /// `text` without secrets.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Every span begins and ends at an ASCII character or at that of a value: nothing is lost here.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

/// What looks like a secret.
fn shapes(bytes: &[u8], spans: &mut Vec<Span<'_>>) {
    let (mut at, mut done) = (0, 0);
    while let Some(skipped) = to_trigger(bytes.get(at..).unwrap_or_default()) {
        at += skipped;
        let Some(span) = shape_at(bytes, at).filter(|span| span.end > done) else {
            at += 1;
            continue;
        };
        if span.kind == tokens::AWS_KEY_ID {
            spans.extend(tokens::aws_secret_after(bytes, span.end));
        }
        done = span.end;
        at = done;
        spans.push(span);
    }
}

/// How far it is to the next byte that is worth a look. A loop of its own, because it is where the time goes.
#[inline(never)]
fn to_trigger(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| TRIGGERS[usize::from(*byte)])
}

/// The neighbours tell nearly always that it is nothing; only then is it looked at closely.
#[inline(never)]
fn shape_at(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let byte = *bytes.get(at)?;
    let next = bytes.get(at + 1).copied().unwrap_or(0);
    match byte {
        b'-' if next == b'-' => {
            let token = tokens::at_mark(bytes, at).or_else(|| key::at_dash(bytes, at));
            token.or_else(|| command::long(bytes, at))
        }
        b'-' if next == b'p' => tokens::at_mark(bytes, at).or_else(|| command::short(bytes, at)),
        b'-' if next == b'L' || next == b'M' => tokens::at_mark(bytes, at).or_else(|| key::at_putty(bytes, at)),
        b'_' | b'.' | b'-' => tokens::at_mark(bytes, at),
        b':' if next == b'/' || next == b'\\' => assigned::url(bytes, at).or_else(|| assigned::to_name(bytes, at)),
        b':' if next == b'A' => tokens::telegram(bytes, at).or_else(|| assigned::to_name(bytes, at)),
        b':' => assigned::to_name(bytes, at).or_else(|| command::of_user(bytes, at)),
        b'=' => assigned::to_name(bytes, at),
        b'B' if next == b'e' => assigned::bearer(bytes, at),
        b'B' => None,
        _ => tokens::at_letter(bytes, at),
    }
}

fn replace(bytes: &[u8], spans: &[Span<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut done = 0;
    for span in spans {
        if span.start < done {
            // Two kinds have seen the same secret: the second may reach further.
            done = done.max(span.end);
            continue;
        }
        out.extend_from_slice(bytes.get(done..span.start).unwrap_or_default());
        for part in [&b"[redacted:"[..], span.kind.as_bytes(), b"]"] {
            out.extend_from_slice(part);
        }
        done = span.end;
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
    out
}

/// Whether a word can begin here: after anything but a letter or digit, and after an escape sequence of JSON or a URL, whose
/// last character is one.
fn begins_word(bytes: &[u8], at: usize) -> bool {
    let back = |by: usize| at.checked_sub(by).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
    let previous = back(1);
    !previous.is_ascii_alphanumeric()
        || (matches!(previous, b'n' | b'r' | b't' | b'b' | b'f') && back(2) == b'\\')
        || (back(6) == b'\\' && back(5) == b'u')
        || (back(3) == b'%' && back(2).is_ascii_hexdigit() && previous.is_ascii_hexdigit())
}

/// How many bytes from `at` on fit.
fn run(bytes: &[u8], at: usize, fits: impl Fn(u8) -> bool) -> usize {
    bytes.get(at..).unwrap_or_default().iter().take_while(|byte| fits(**byte)).count()
}

/// Made by chance rather than written by somebody: digits, or small and large letters mixed.
fn looks_random(bytes: &[u8]) -> bool {
    let any = |test: fn(&u8) -> bool| bytes.iter().any(test);
    any(u8::is_ascii_digit) || (any(u8::is_ascii_lowercase) && any(u8::is_ascii_uppercase))
}

#[cfg(test)]
mod tests;
