//! Whether new lines of a log say something new.
//!
//! A worker that retries the same thing for ever complains again and again in the same words, perhaps with other numbers or ids in
//! them. What is no complaint is a sign of life, however often it is said: a log that is written to is what a worker that sends no
//! heartbeats has to show.

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// So many different complaints are remembered.
const MOST_COMPLAINTS: usize = 64;

/// At most this much is read at a look: the end of what is new. Who has something new to say says so there, too, at one
/// look or the next; who repeats himself quickly would else be taken for new for ever.
const MOST_BYTES: u64 = 64 << 10;

/// What a line has in it that tells of a failure or of another attempt, in small letters.
const COMPLAINTS: [&[u8]; 14] = [
    b"retry",
    b"retries",
    b"retried",
    b"try again",
    b"trying again",
    b"attempt",
    b"error",
    b"fail",
    b"timeout",
    b"timed out",
    b"rate limit",
    b"overloaded",
    b"refused",
    b"unavailable",
];

/// A run of letters and digits is an id from this length on if it has a digit; hexadecimal ones from the second on, with or without.
const SHORTEST_ID: usize = 8;
const SHORTEST_HEX: usize = 4;

/// What one log has said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    read_to: u64,
    /// Of its end, when it was last written to without growing.
    content: Option<u64>,
    /// Complaints, without what changes in them.
    complaints: VecDeque<u64>,
}

impl Said {
    /// From the end of a log that exists already.
    pub(crate) fn from(read_to: u64) -> Self {
        Self { read_to, ..Self::default() }
    }

    /// The same, by a daemon before this one.
    pub(crate) fn recall(read_to: u64, complaints: &[u64]) -> Self {
        Self { read_to, complaints: complaints.iter().copied().take(MOST_COMPLAINTS).collect(), ..Self::default() }
    }

    pub(crate) fn complaints(&self) -> Vec<u64> {
        self.complaints.iter().copied().collect()
    }

    /// It is empty again: what comes is read from its beginning.
    pub(crate) fn emptied(&mut self) {
        self.read_to = 0;
    }

    /// Whether what was written since the last call contains anything new. What can't be read is taken for new: a doubt
    /// must not end a worker.
    pub(crate) fn anything_new(&mut self, path: &Path, size: u64) -> bool {
        let grew = size > self.read_to;
        let from = if grew { self.read_to } else { 0 };
        self.read_to = size;
        let length = (size - from).min(MOST_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if File::open(path).and_then(|file| file.read_exact_at(&mut bytes, size - length)).is_err() {
            return true;
        }
        if !grew {
            // It was written anew, or touched only.
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            let content = Some(hasher.finish());
            if std::mem::replace(&mut self.content, content) == content {
                return false;
            }
        }
        self.take(if length < size - from { after_first_line(&bytes) } else { &bytes })
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut new = false;
        for line in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            if !is_complaint(line) {
                new = true;
                continue;
            }
            let hash = sentence(line);
            if self.complaints.contains(&hash) {
                continue;
            }
            new = true;
            if self.complaints.len() == MOST_COMPLAINTS {
                self.complaints.pop_front();
            }
            self.complaints.push_back(hash);
        }
        new
    }
}

/// Without the line whose beginning is missing; if there is no other, that one.
fn after_first_line(bytes: &[u8]) -> &[u8] {
    match bytes.iter().position(|&b| b == b'\n') {
        Some(end) if end + 1 < bytes.len() => &bytes[end + 1..],
        Some(_) | None => bytes,
    }
}

fn is_complaint(line: &[u8]) -> bool {
    let small = line.to_ascii_lowercase();
    COMPLAINTS.iter().any(|words| small.windows(words.len()).any(|window| window == *words))
}

/// The line without its numbers and ids.
fn sentence(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80;
    for token in line.chunk_by(|&a, &b| in_token(a) && in_token(b)).filter(|token| !is_id(token)) {
        token.iter().filter(|byte| !byte.is_ascii_digit()).for_each(|byte| byte.hash(&mut hasher));
    }
    hasher.finish()
}

fn is_id(token: &[u8]) -> bool {
    let digit = token.iter().any(u8::is_ascii_digit);
    (token.len() >= SHORTEST_ID && digit) || (token.len() >= SHORTEST_HEX && token.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_sentence_with_other_numbers_is_not_new() {
        let mut said = Said::default();
        assert!(said.take(b"09:00:01 API error 529, retrying in 30 s (attempt 1)\n"));
        assert!(!said.take(b"09:00:31 API error 529, retrying in 30 s (attempt 2)\n09:01:01 API error 500, retrying in 60 s (attempt 3)\n"));
        assert!(said.take(b"09:01:31 connection refused, retrying in 60 s (attempt 4)\n"));
        assert!(!said.take(b"09:02:31 API error 529, retrying in 30 s (attempt 5)\n"));
    }

    #[test]
    fn what_is_no_complaint_is_life_however_often_it_is_said() {
        let mut said = Said::default();
        for line in [b"tick\n" as &[u8], b"still working on step 7 of 90\n", b"compiling, please wait\n"] {
            assert!((0..20).all(|_| said.take(line)));
        }
        assert!(said.take(b"retry attempt 1\n") && !said.take(b"retry attempt 2\n"));
    }

    #[test]
    fn the_same_sentence_with_another_id_is_not_new() {
        let mut said = Said::default();
        assert!(said.take(b"request 0b6f7a3c-9d1e-4c55-8e2f-aabbccddeeff failed, trying again\n"));
        assert!(!said.take(b"request 77aa01ff-abcd-4ddd-beef-0123456789ab failed, trying again\n"));
        assert!(said.take(b"request req_011CSHoEeqs5C35K2UUqR7Fy failed, will try again\n"));
        assert!(!said.take(b"request req_7xQpW0aZk3Lm9Bv2Nc8Dd1Ff failed, will try again\n"));
        assert!(said.take(b"wrote a file named x\n") && said.take(b"wrote a file named xx\n"), "words are news");
    }

    #[test]
    fn a_log_that_is_touched_or_written_anew_with_the_same_says_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut said = Said::default();
        let mut look = |text: &str| {
            std::fs::write(&path, text).unwrap();
            said.anything_new(&path, text.len() as u64)
        };
        assert!(look("API error 529, retrying now again\n"));
        assert!(!look("API error 529, retrying now again\n"), "the same");
        assert!(!look("API error 500, retrying now again\n"), "of the same size");
        assert!(look("API error 500, connected by now!!\n"), "something else");
        let many: String = (0..200).map(|n| format!("wrote a file named {}\n", "x".repeat(n))).collect();
        assert!(look(&many) && look(&many), "written anew, for all that is known");
        assert!(!look(&many) && !look(&many), "but it stays the same");
    }

    #[test]
    fn a_thousand_of_the_same_at_once_are_not_new_but_one_other_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let many: String = (0..3_000).map(|n| format!("API error 529, retrying in {n} s (attempt {n})\n")).collect();
        let mut said = Said::default();
        let mut text = String::new();
        let mut write = |more: &str| {
            text.push_str(more);
            std::fs::write(&path, &text).unwrap();
            said.anything_new(&path, text.len() as u64)
        };
        assert!(many.len() as u64 > MOST_BYTES && write(&many));
        assert!(!write(&many));
        assert!(write(&format!("{many}it has got through\n")));
    }

    #[test]
    fn a_log_is_read_once_and_a_new_one_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut said = Said::default();
        let mut look = |text: &str| {
            std::fs::write(&path, text).unwrap();
            said.anything_new(&path, text.len() as u64)
        };
        assert!(look("it has failed again\n"));
        assert!(!look("it has failed again\nit has failed again\n"));
        assert!(!look("it has failed again\n"), "it was begun anew, with the same");
        assert!(look("it has failed again\nsomething else for once\n"));
    }
}
