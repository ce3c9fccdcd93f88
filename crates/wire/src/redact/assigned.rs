//! Secrets that are known by what stands before them: a name, a header, the user in a URL.

use super::{Span, begins_word, header, looks_random, run, tokens};

/// The longest value that is looked at.
const VALUE_MAX_BYTES: usize = 1024;

/// What a name says of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// People choose them: they need not look like chance.
    Password,
    Secret,
    Authorization,
    /// Of one cookie, its attributes after it, or of several.
    SetCookie,
    Cookies,
    /// 32 or more digits in hex.
    Digest,
}

/// The ends of names, small letters, without `_` and `-`.
const NAMES: [(&[u8], Sort); 20] = [
    (b"password", Sort::Password),
    (b"passwd", Sort::Password),
    (b"passphrase", Sort::Password),
    (b"pwd", Sort::Password),
    (b"secret", Sort::Secret),
    (b"token", Sort::Secret),
    (b"apikey", Sort::Secret),
    (b"accesskey", Sort::Secret),
    (b"secretkey", Sort::Secret),
    (b"privatekey", Sort::Secret),
    (b"authkey", Sort::Secret),
    (b"signingkey", Sort::Secret),
    (b"encryptionkey", Sort::Secret),
    (b"accountkey", Sort::Secret),
    (b"masterkey", Sort::Secret),
    (b"sharedkey", Sort::Secret),
    (b"credential", Sort::Secret),
    (b"credentials", Sort::Secret),
    (b"authtoken", Sort::Secret),
    (b"authorization", Sort::Authorization),
];

/// A name as it stands before its `:` or `=`.
struct Name {
    sort: Sort,
    /// `DB_PASSWORD=`, `--password=`, `?password=`: where a value is meant, and no variable of a program.
    is_setting: bool,
    /// `X-Api-Key:`: all that its line has is the value.
    is_header: bool,
}

/// What `:` or `=` follows, if it may be one of [`NAMES`]; most names end otherwise.
#[inline]
fn end_of_name(bytes: &[u8], at: usize) -> Option<usize> {
    let before = bytes.get(..at)?;
    let spaces = before.iter().rev().take(2).take_while(|byte| **byte == b' ').count();
    let before = before.get(..at - spaces)?;
    let quotes = before.iter().rev().take(5).take_while(|byte| matches!(byte, b'"' | b'\'' | b'`' | b'\\')).count();
    let end = at - spaces - quotes;
    let [.., first, second, third] = before.get(..end)? else { return None };
    let last = [first, second, third].map(u8::to_ascii_lowercase);
    let known = match last {
        [_, b'r' | b'w', b'd'] | [b'r', b'e', b't'] | [b'k', b'e', b'n' | b'y'] | [_, b'e', b'y'] => true,
        [b'p', b'a', b't'] | [b's', b'i', b'g'] | [b'n', b's', b'e'] => true,
        [b'a', b's', b's' | b'e'] | [b'i', b'a', b'l'] | [b'a', b'l', b's'] => true,
        [b'k', b'i', b'e'] => bytes.get(at) == Some(&b':'),
        [b'i', b'o', b'n'] => {
            end.checked_sub(6).and_then(|at| bytes.get(at)).is_some_and(|byte| matches!(byte, b'z' | b'Z'))
        }
        _ => false,
    };
    known.then_some(end)
}

fn name_before(bytes: &[u8], at: usize) -> Option<Name> {
    let end = end_of_name(bytes, at)?;
    let back = |at: usize| at.checked_sub(1).and_then(|at| bytes.get(at)).copied();
    // Backwards, without what joins words.
    let mut letters = [0; 14];
    let (mut count, mut start) = (0, end);
    while let Some(byte) = back(start).filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        if byte.is_ascii_alphanumeric() {
            if let Some(letter) = letters.iter_mut().rev().nth(count) {
                *letter = byte.to_ascii_lowercase();
            }
            count += 1;
        }
        start -= 1;
        if end - start > 64 {
            break;
        }
    }
    // In JSON an escape's letter stands before the first word of a line.
    if back(start) == Some(b'\\') && matches!(bytes.get(start), Some(b'n' | b'r' | b't')) {
        (start, count) = (start + 1, count - 1);
    }
    let letters = letters.get(letters.len().saturating_sub(count)..)?;
    let name = bytes.get(start..end)?;
    let upper = !name.iter().any(u8::is_ascii_lowercase);
    let sort = if ends_in(name, b"set-cookie") {
        Some(Sort::SetCookie)
    } else if ends_in(name, b"cookie") {
        Some(Sort::Cookies)
    } else {
        // The last three letters tell most of them apart.
        let ends = |known: &[u8]| known.last_chunk::<3>() == letters.last_chunk::<3>() && letters.ends_with(known);
        NAMES.iter().find(|(known, _)| ends(known)).map(|(_, sort)| *sort)
    };
    // `DB_PASS`, `OPENAI_KEY`, but no `bypass` and no `cache_key`.
    let sort = sort
        .or_else(|| {
            name.len()
                .checked_sub(5)
                .and_then(|at| name.get(at..))
                .filter(|end| end.eq_ignore_ascii_case(b"_pass"))
                .map(|_| Sort::Password)
        })
        .or_else(|| (upper && (name.ends_with(b"_KEY") || name.ends_with(b"_PAT"))).then_some(Sort::Secret))
        // The signature of a shared address, and that of `Authorization: Digest`.
        .or_else(|| (name == b"sig" && matches!(back(start), Some(b'?' | b'&'))).then_some(Sort::Secret))
        .or_else(|| (name == b"response" && bytes.get(at) == Some(&b'=')).then_some(Sort::Digest))?;
    let is_setting = upper || name.starts_with(b"--") || matches!(back(start), Some(b'?' | b'&'));
    let is_custom = name.first_chunk() == Some(b"x-") || name.first_chunk() == Some(b"X-");
    let is_custom = is_custom || name.windows(3).any(|window| window.eq_ignore_ascii_case(b"-x-"));
    let is_header = bytes.get(at) == Some(&b':') && (is_custom || ends_in(name, b"api-key"));
    Some(Name { sort, is_setting, is_header })
}

/// Whether these are the name's last words; what joins words to names of programs may not stand before them.
fn ends_in(name: &[u8], words: &[u8]) -> bool {
    let Some((before, end)) = name.len().checked_sub(words.len()).and_then(|at| name.split_at_checked(at)) else {
        return false;
    };
    end.eq_ignore_ascii_case(words) && before.last().is_none_or(|byte| *byte == b'-')
}

/// At a `:` or `=`: what is assigned to a name that promises a secret.
pub(super) fn to_name(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let name = name_before(bytes, at)?;
    let mut value = at + 1;
    match (bytes.get(at)?, bytes.get(value)?) {
        (b':', b'=') => value += 1,
        (_, b':' | b'=' | b'>' | b'~') => return None,
        _ => {}
    }
    value += run(bytes, value, |byte| byte == b' ').min(8);
    let escapes = run(bytes, value, |byte| byte == b'\\').min(7);
    let quote = bytes.get(value + escapes).copied().filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    let delimiter = quote.map(|_| bytes.get(value..=value + escapes)).unwrap_or_default();
    let quoted = delimiter.and_then(|delimiter| {
        let start = value + delimiter.len();
        let rest = bytes.get(start..bytes.len().min(start + VALUE_MAX_BYTES))?;
        let ends = |at: &usize| {
            let escaped = *at > 0 && rest.get(at - 1) == Some(&b'\\');
            !escaped && rest.get(*at..).is_some_and(|rest| rest.starts_with(delimiter))
        };
        let end = (0..rest.len()).find(ends)?;
        (!rest.get(..end)?.contains(&b'\n')).then_some((start, start + end))
    });
    let (start, end) = quoted.unwrap_or_else(|| {
        let start = value + delimiter.map_or(0, <[u8]>::len);
        (start, start + run(bytes, start, is_plain))
    });
    match name.sort {
        Sort::Authorization => return header::authorization(bytes, start, end, quoted.is_some()),
        Sort::Cookies | Sort::SetCookie => return header::cookies(bytes, start, name.sort == Sort::SetCookie),
        Sort::Password | Sort::Secret | Sort::Digest => {}
    }
    let is_header = name.is_header && is_whole(bytes, at, end, quoted.is_some());
    of_sort(bytes, (start, end), &Name { is_header, ..name }, quoted.is_some())
}

/// The value of a command's option, whose name ends at `at`.
pub(super) fn to_option(bytes: &[u8], at: usize, start: usize, end: usize) -> Option<Span<'static>> {
    // Where nothing joins them it may be prose.
    let name = Name { is_setting: false, is_header: false, ..name_before(bytes, at)? };
    let quoted = start > at + 1;
    matches!(name.sort, Sort::Password | Sort::Secret).then(|| of_sort(bytes, (start, end), &name, quoted)).flatten()
}

/// Whether a header has this value and nothing else, and is no program's text: there the value is quoted if the name is.
fn is_whole(bytes: &[u8], at: usize, end: usize, quoted: bool) -> bool {
    let is_named_plainly = at.checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let ends = bytes.get(end).is_none_or(|next| matches!(next, b'\n' | b'\r' | b'"' | b'\'' | b'\\'));
    quoted || (is_named_plainly && ends)
}

fn of_sort(bytes: &[u8], (start, end): (usize, usize), name: &Name, quoted: bool) -> Option<Span<'static>> {
    let text = bytes.get(start..end)?;
    let arrow = bytes.get(end) == Some(&b'>') && text.ends_with(b"-");
    let called = !quoted && (arrow || matches!(bytes.get(end), Some(b'(' | b'[')));
    if called || text.len() > VALUE_MAX_BYTES || is_placeholder(text) || !is_secret(text, name, quoted) {
        return None;
    }
    let kind = match name.sort {
        Sort::Password => "password",
        Sort::Secret | Sort::Authorization | Sort::SetCookie | Sort::Cookies | Sort::Digest => "secret",
    };
    // Whose it is tells more than that it is one.
    let known =
        (start..end.min(start + 24)).find_map(|at| tokens::at_mark(bytes, at).or_else(|| tokens::at_letter(bytes, at)));
    let kind = known.filter(|known| known.start == start && known.end == end).map_or(kind, |known| known.kind);
    Some(Span { start, end, kind })
}

/// Where nothing quotes a value, it ends here at the latest.
pub(super) fn is_plain(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"\"'`\\,;&|()[]{}<>".contains(&byte)
}

/// What stands where a secret will be: a variable, a mark, asterisks.
pub(super) fn is_placeholder(text: &[u8]) -> bool {
    let begins = [&b"${"[..], b"$(", b"{{", b"%(", b"[redacted:", b"process.env", b"self.", b"this."];
    if begins.iter().any(|begin| text.starts_with(begin)) {
        return true;
    }
    match text {
        [b'<', .., b'>'] | [b'{', .., b'}'] | [b'[', .., b']'] | [b'%', .., b'%'] => true,
        [b'$', first, rest @ ..] if !first.is_ascii_digit() => {
            std::iter::once(first).chain(rest).all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        }
        _ => text.iter().all(|byte| matches!(byte, b'*' | b'.' | b'x' | b'X')),
    }
}

/// `/home/ada/…`, `~/…`, `./…`: the working directory is called PWD, too, and a file's name is no secret.
fn is_path(text: &[u8]) -> bool {
    match text {
        [b'~' | b'.', b'/', ..] => true,
        [b'/', rest @ ..] => {
            let first = run(rest, 0, |byte| byte.is_ascii_lowercase());
            first >= 2 && rest.get(first).is_none_or(|next| *next == b'/')
        }
        _ => false,
    }
}

/// `module::NAME`, `object->member`, `package.Class2`, `call(…)`: a program's words where nothing quotes them.
fn is_code(text: &[u8], name: &Name) -> bool {
    let holds = |what: &[u8]| text.windows(what.len()).any(|window| window == what);
    let dotted = || {
        let is_word = |word: &[u8]| {
            word.first().is_some_and(u8::is_ascii_alphabetic)
                && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        !name.is_setting && text.contains(&b'.') && text.split(|byte| *byte == b'.').all(is_word)
    };
    holds(b"::") || holds(b"->") || dotted()
}

fn is_secret(text: &[u8], name: &Name, quoted: bool) -> bool {
    let any = |test: fn(&u8) -> bool| text.iter().any(test);
    let meant = quoted || name.is_setting;
    if text.contains(&b' ') || (!quoted && is_code(text, name)) {
        // Prose in quotes is no secret.
        return false;
    }
    match name.sort {
        Sort::Digest => text.len() >= 32 && text.iter().all(u8::is_ascii_hexdigit),
        Sort::Password if is_path(text) => false,
        Sort::Password if meant => text.len() >= 4,
        Sort::Password => text.len() >= 6 && any(|byte| byte.is_ascii_digit() || b"!@#%^*+?~".contains(byte)),
        Sort::Secret if name.is_header && text.len() >= 9 && text.iter().all(u8::is_ascii_alphanumeric) => true,
        Sort::Secret | Sort::Authorization | Sort::SetCookie | Sort::Cookies => {
            let mixed = any(u8::is_ascii_digit) && any(u8::is_ascii_alphabetic);
            let written = any(|byte| matches!(byte, b'.' | b'_'));
            // Where nothing says that it is meant, a name in camel case looks the same.
            let by_case = text.len() >= if meant { 16 } else { 30 } && looks_random(text) && !written;
            let is_link = text.windows(3).any(|window| window == b"://");
            text.len() >= if meant { 8 } else { 12 } && !is_link && (mixed || (by_case && any(u8::is_ascii_alphabetic)))
        }
    }
}

/// `Bearer …` where no header's name stands before it.
pub(super) fn bearer(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    const WORD: &[u8] = b"earer ";
    if bytes.get(at + 1..at + 1 + WORD.len())? != WORD || !begins_word(bytes, at) {
        return None;
    }
    let start = at + 1 + WORD.len();
    let length = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    let text = bytes.get(start..start + length)?;
    let fits = length >= 16 && looks_random(text);
    fits.then_some(Span { start, end: start + length, kind: "authorization" })
}

/// At the colon of `scheme://user:password@host`; the slashes may be escaped.
pub(super) fn url(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let rest = bytes.get(at + 1..)?;
    let slashes = [&b"//"[..], b"\\/\\/"].into_iter().find(|slashes| rest.starts_with(slashes))?.len();
    let start = at + 1 + slashes;
    let length = run(bytes, start, |byte| !byte.is_ascii_whitespace() && !b"/?#\"'`\\<>{}|^".contains(&byte)).min(512);
    let authority = bytes.get(start..start + length)?;
    let user = authority.get(..authority.iter().rposition(|byte| *byte == b'@')?)?;
    // A mark that was put here is no user.
    if user.windows(10).any(|window| window == b"[redacted:") {
        return None;
    }
    let (from, least) = match user.iter().position(|byte| *byte == b':') {
        Some(colon) => (colon + 1, 1),
        // A token in the place of the user.
        None => (0, 20),
    };
    let secret = user.get(from..)?;
    let fits = secret.len() >= least && !is_placeholder(secret) && (from > 0 || looks_random(secret));
    fits.then_some(Span { start: start + from, end: start + user.len(), kind: "password" })
}
