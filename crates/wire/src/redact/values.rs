//! Secrets that are known word by word: what the environment holds. Found by the method of Wu and Manber, which looks at a
//! few of the bytes only.

use super::Span;

/// Shorter values are too likely to be words.
const VALUE_MIN_BYTES: usize = 8;
/// A longer one is a file's content, and has its own shapes.
const VALUE_MAX_BYTES: usize = 32 << 10;
/// Of the patterns, as they are written, and as JSON and URLs have them.
const MOST_PATTERNS: usize = 512;

const SECRET_NAMES: [&str; 9] =
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "PRIVATE", "DSN"];
/// As the last word of a name; within one they are too likely to mean something else.
const SECRET_LAST_WORDS: [&str; 7] = ["PASS", "PWD", "PAT", "AUTH", "COOKIE", "SIGNATURE", "SALT"];
/// Whoever knows the address may write there.
const SECRET_ENDS: [&str; 2] = ["WEBHOOK", "WEBHOOK_URL"];
/// What such a name may hold and is none.
const HARMLESS_ENDS: [&str; 8] = ["_FILE", "_PATH", "_DIR", "_SOCK", "_TOKENS", "_SOURCE", "_TTL_MS", "_URL"];

const BLOCKS: usize = 4096;
/// So far one can go on if a block is in no pattern.
const SHIFT_MAX: u8 = 7;

#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    name: Box<str>,
}

/// The values, with a table to find them by.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    /// The longest first, so that one that holds another wins.
    patterns: Vec<Pattern>,
    /// By two bytes: how far to go on.
    shifts: Vec<u8>,
}

/// Whether what a variable of this name holds is likely to be a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let unnumbered = name.trim_end_matches(|char: char| char.is_ascii_digit()).trim_end_matches('_');
    // `PWD` alone is the working directory.
    let by_last = unnumbered
        .rsplit_once('_')
        .is_some_and(|(before, last)| !before.is_empty() && SECRET_LAST_WORDS.contains(&last));
    if by_last || SECRET_ENDS.iter().any(|end| unnumbered.ends_with(end)) {
        return true;
    }
    SECRET_NAMES.iter().any(|word| name.contains(word)) && !HARMLESS_ENDS.iter().any(|end| name.ends_with(end))
}

fn block(a: u8, b: u8) -> usize {
    (usize::from(a) << 4 ^ usize::from(b)) % BLOCKS
}

impl Values {
    pub(super) fn new<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut patterns: Vec<Pattern> = Vec::new();
        for (name, value) in variables {
            let value = value.trim();
            if !is_secret_name(name) || !(VALUE_MIN_BYTES..=VALUE_MAX_BYTES).contains(&value.len()) {
                continue;
            }
            // A number is hardly a secret, and found in every log.
            if value.len() < 12 && value.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let safe = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
            let name: Box<str> = name.chars().take(64).map(safe).collect();
            for bytes in ways_to_write(value) {
                patterns.push(Pattern { bytes, name: name.clone() });
            }
        }
        patterns.sort_by(|a, b| b.bytes.len().cmp(&a.bytes.len()).then_with(|| a.bytes.cmp(&b.bytes)));
        patterns.dedup_by(|a, b| a.bytes == b.bytes);
        patterns.truncate(MOST_PATTERNS);
        let mut shifts = Vec::new();
        if !patterns.is_empty() {
            shifts = vec![SHIFT_MAX; BLOCKS];
        }
        for pattern in &patterns {
            let heads = pattern.bytes.iter().zip(pattern.bytes.iter().skip(1)).take(usize::from(SHIFT_MAX));
            for ((a, b), left) in heads.zip((0..SHIFT_MAX).rev()) {
                if let Some(shift) = shifts.get_mut(block(*a, *b)) {
                    *shift = (*shift).min(left);
                }
            }
        }
        Self { patterns, shifts }
    }

    /// Adds where they are.
    pub(super) fn find<'a>(&'a self, bytes: &[u8], spans: &mut Vec<Span<'a>>) {
        if self.patterns.is_empty() {
            return;
        }
        // The last two of the first eight bytes of what may be there.
        let mut at = VALUE_MIN_BYTES - 1;
        while let (Some(b), Some(a)) = (bytes.get(at), bytes.get(at - 1)) {
            let shift = self.shifts.get(block(*a, *b)).copied().unwrap_or(1);
            if shift > 0 {
                at += usize::from(shift);
                continue;
            }
            let start = at + 1 - VALUE_MIN_BYTES;
            let here = bytes.get(start..).unwrap_or_default();
            match self.patterns.iter().find(|pattern| here.starts_with(&pattern.bytes)) {
                Some(pattern) => {
                    let end = start + pattern.bytes.len();
                    spans.push(Span { start, end, kind: &pattern.name });
                    at = end + VALUE_MIN_BYTES - 1;
                }
                None => at += 1,
            }
        }
    }
}

/// A value, and how it looks in JSON, in JSON that is quoted in JSON, and in a URL.
fn ways_to_write(value: &str) -> Vec<Vec<u8>> {
    let quoted = |text: &str| {
        let json = serde_json::to_string(text).unwrap_or_default();
        json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or_default().to_owned()
    };
    let once = quoted(value);
    let twice = quoted(&once);
    // As Python writes JSON: ASCII only.
    let mut ascii = String::new();
    for char in once.chars() {
        if char.is_ascii() {
            ascii.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    let mut url = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    let twice_ascii = quoted(&ascii);
    [value.to_owned(), once, twice, ascii, twice_ascii, url].into_iter().map(String::into_bytes).collect()
}
