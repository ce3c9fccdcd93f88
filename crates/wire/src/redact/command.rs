//! Passwords in command lines, where no name stands before them: `curl -u user:password`, `mysql -pPASSWORD`.

use super::assigned::{self, is_placeholder, is_plain};
use super::{Span, run};

const KIND: &str = "password";
/// So far back the command's name is looked for.
const COMMAND_MAX_BYTES: usize = 512;
/// The longest user, and the longest password.
const USER_MAX_BYTES: usize = 64;
const VALUE_MAX_BYTES: usize = 256;
/// A number so short is rather a port.
const PORT_MAX_DIGITS: usize = 5;

/// At the colon of `curl -u user:password`.
#[inline]
pub(super) fn of_user(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let before = at.checked_sub(1).and_then(|at| bytes.get(at))?;
    let next = bytes.get(at + 1)?;
    // Nearly all colons end a member's name, or a word.
    if !is_user(*before) || matches!(next, b' ' | b':' | b'\n') { None } else { after_user(bytes, at) }
}

fn is_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._@+%-${}".contains(&byte)
}

fn after_user(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let start = at - before(bytes, at, USER_MAX_BYTES, is_user);
    let user = bytes.get(start..at)?;
    let (option, quote) = if user.starts_with(b"-u") && is_gap(bytes, start) {
        (start, start)
    } else {
        let quote = start - before(bytes, start, 8, is_quote);
        let option_end = quote - before(bytes, quote, 8, |byte| matches!(byte, b' ' | b'\t' | b'='));
        let option = option_end - before(bytes, option_end, 16, |byte| byte.is_ascii_alphabetic() || byte == b'-');
        let is_user = match bytes.get(option..option_end)? {
            b"--user" | b"--proxy-user" => true,
            [b'-', flags @ .., b'u' | b'U'] => flags.iter().all(u8::is_ascii_alphabetic),
            _ => false,
        };
        if !is_user || option_end == quote || !is_gap(bytes, option) {
            return None;
        }
        (option, quote)
    };
    let (start, end) = value(bytes, at + 1, bytes.get(quote..start)?);
    let text = bytes.get(start..end)?;
    let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let is_ids = is_number(user) && is_number(text);
    let fits = !text.is_empty() && !is_blank(text) && !is_ids;
    (fits && follows(bytes, option, |name| name == b"curl")).then_some(Span { start, end, kind: KIND })
}

/// At the dash of `mysql -pPASSWORD` or `sshpass -p PASSWORD`.
pub(super) fn short(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    if !is_gap(bytes, at) {
        return None;
    }
    let spaces = run(bytes, at + 2, |byte| byte == b' ');
    let (start, end) = quoted_value(bytes, at + 2 + spaces);
    let text = bytes.get(start..end)?;
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    // `3306`, `127.0.0.1:3306:3306`
    let is_port = text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'/'))
        && (digits <= PORT_MAX_DIGITS || digits < text.len());
    if text.len() < 3 || is_blank(text) || (spaces == 0 && is_port) {
        return None;
    }
    let is_mysql = |name: &[u8]| name.starts_with(b"mysql") || name.starts_with(b"mariadb");
    // What follows its own options is another command.
    let is_sshpass = bytes.get(..at)?.trim_ascii_end().ends_with(b"sshpass");
    let takes = is_sshpass || (spaces == 0 && follows(bytes, at, is_mysql));
    takes.then_some(Span { start, end, kind: KIND })
}

/// At the first dash of `--password PASSWORD`; `--password=…` has a mark of its own.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let end = at + 2 + run(bytes, at + 2, |byte| byte.is_ascii_lowercase() || byte == b'-').min(USER_MAX_BYTES);
    if bytes.get(end) != Some(&b' ') || !is_gap(bytes, at) {
        return None;
    }
    let (start, value_end) = quoted_value(bytes, end + 1);
    assigned::to_option(bytes, end, start, value_end)
}

/// How many bytes before `at` fit.
fn before(bytes: &[u8], at: usize, most: usize, fits: impl Fn(u8) -> bool) -> usize {
    bytes.get(..at).unwrap_or_default().iter().rev().take(most).take_while(|byte| fits(**byte)).count()
}

/// No value yet: a variable, or the beginning of `${NAME}`.
fn is_blank(text: &[u8]) -> bool {
    text.ends_with(b"$") || is_placeholder(text)
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'\\')
}

/// An option may begin here: after a space, or an escape that means one.
fn is_gap(bytes: &[u8], at: usize) -> bool {
    match bytes.get(..at) {
        Some([.., last]) if last.is_ascii_whitespace() => true,
        Some([.., b'\\', b'n' | b'r' | b't']) => true,
        _ => false,
    }
}

/// A value that may be quoted.
fn quoted_value(bytes: &[u8], at: usize) -> (usize, usize) {
    let quote = run(bytes, at, is_quote).min(8);
    let quote = bytes.get(at..at + quote).unwrap_or_default();
    // Only of one kind: two are an empty value.
    let length = quote.iter().position(|byte| *byte != b'\\').map_or(0, |mark| mark + 1);
    let quote = quote.get(..length).unwrap_or_default();
    value(bytes, at + length, quote)
}

/// What begins at `start`, up to what `quote` is, or as far as a word goes.
fn value(bytes: &[u8], start: usize, quote: &[u8]) -> (usize, usize) {
    let near = bytes.get(start..bytes.len().min(start + VALUE_MAX_BYTES)).unwrap_or_default();
    let quoted = (!quote.is_empty())
        .then(|| near.windows(quote.len()).position(|window| window == quote))
        .flatten()
        .filter(|length| near.get(..*length).is_some_and(|text| !text.contains(&b'\n')));
    (start, start + quoted.unwrap_or_else(|| run(near, 0, is_plain)))
}

/// Whether an option is one of a command that `fits`: its name stands before it in the same command line.
fn follows(bytes: &[u8], at: usize, fits: impl Fn(&[u8]) -> bool) -> bool {
    let is_command = |word: &[u8]| {
        let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        !word.starts_with(b"-") && fits(name)
    };
    let (mut end, mut here) = (at, at);
    let least = at.saturating_sub(COMMAND_MAX_BYTES);
    while here > least {
        here -= 1;
        let Some(byte) = bytes.get(here).copied() else { return false };
        if byte == b'\\' {
            let escaped = end > here + 1 && matches!(bytes.get(here + 1), Some(b'n' | b'r' | b't'));
            if bytes.get(here + 1 + usize::from(escaped)..end).is_some_and(is_command) {
                return true;
            }
            // In JSON a line that goes on has two more of them.
            if escaped && bytes.get(here + 1) == Some(&b'n') && before(bytes, here, 2, |byte| byte == b'\\') < 2 {
                return false;
            }
            end = here;
        } else if byte.is_ascii_whitespace() || b"\"'`(){}=,|;&".contains(&byte) {
            if bytes.get(here + 1..end).is_some_and(is_command) {
                return true;
            }
            let goes_on = here.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&b'\\');
            if matches!(byte, b'|' | b';') || (byte == b'\n' && !goes_on) {
                return false;
            }
            end = here;
        }
    }
    here == 0 && bytes.get(..end).is_some_and(is_command)
}
