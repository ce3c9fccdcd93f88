//! Whether new lines of a log say something new.
//!
//! A worker that retries the same thing for ever writes the same sentence again and again, perhaps with other numbers in
//! it. A sentence has three words: shorter lines (`tick 7`) are too little to tell.

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// So many different sentences are remembered.
const MOST_SENTENCES: usize = 64;

/// At most this much is read at a look: the end of what is new. Who has something new to say says so there, too, at one
/// look or the next; who repeats himself quickly would else be taken for new for ever.
const MOST_BYTES: u64 = 64 << 10;

const FEWEST_WORDS: usize = 3;

/// What one log has said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    read_to: u64,
    sentences: VecDeque<u64>,
}

impl Said {
    /// From the end of a log that exists already.
    pub(crate) fn from(read_to: u64) -> Self {
        Self { read_to, sentences: VecDeque::new() }
    }

    /// Whether what was written since the last call contains anything new. What can't be read is taken for new: a doubt
    /// must not end a worker.
    pub(crate) fn anything_new(&mut self, path: &Path, size: u64) -> bool {
        let from = if size < self.read_to { 0 } else { self.read_to };
        self.read_to = size;
        if size == from {
            return true;
        }
        let length = (size - from).min(MOST_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match File::open(path).and_then(|file| file.read_exact_at(&mut bytes, size - length)) {
            Ok(()) => self.take(if length < size - from { after_first_line(&bytes) } else { &bytes }),
            Err(_) => true,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut new = false;
        for line in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            match sentence(line) {
                None => new = true,
                Some(hash) if self.sentences.contains(&hash) => {}
                Some(hash) => {
                    new = true;
                    if self.sentences.len() == MOST_SENTENCES {
                        self.sentences.pop_front();
                    }
                    self.sentences.push_back(hash);
                }
            }
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

/// The line without its numbers; `None` if it is no sentence.
fn sentence(line: &[u8]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut words = 0;
    let mut in_word = false;
    for &byte in line {
        let letter = byte.is_ascii_alphabetic() || byte >= 0x80;
        words += usize::from(letter && !in_word);
        in_word = letter;
        if !byte.is_ascii_digit() {
            byte.hash(&mut hasher);
        }
    }
    (words >= FEWEST_WORDS).then(|| hasher.finish())
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
        assert!(said.take(b"tick 1\n") && said.take(b"tick 2\n"), "too short to tell");
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
        assert!(look("one and the same\n"));
        assert!(!look("one and the same\none and the same\n"));
        assert!(!look("one and the same\n"), "it was begun anew, with the same");
        assert!(look("one and the same\nsomething else for once\n"));
    }
}
