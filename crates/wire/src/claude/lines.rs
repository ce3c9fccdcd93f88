//! Cuts a byte stream into lines with a bound on memory: an over-long line is given as such, and its bytes are not kept.

/// A line longer than this is not kept. The longest line seen in the wild is a tool result of a few MB.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// One line without its end, or word of one that was too long.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Line<'a> {
    /// The line's bytes, without `\n` or `\r\n`.
    Whole(&'a [u8]),
    /// A line of so many bytes, which were dropped.
    TooLong(u64),
}

/// Bytes in, lines out.
#[derive(Debug)]
pub struct LineSplitter {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// Length of the line that is being dropped; 0 while none is.
    dropped_bytes: u64,
    max_line_bytes: usize,
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new(MAX_LINE_BYTES)
    }
}

impl LineSplitter {
    /// A splitter that keeps lines of up to `max_line_bytes`.
    #[must_use]
    pub fn new(max_line_bytes: usize) -> Self {
        Self { begun: Vec::new(), dropped_bytes: 0, max_line_bytes }
    }

    /// Gives every line that `bytes` completes.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = line_end(bytes) {
            let (head, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.begun.is_empty() && self.dropped_bytes == 0 && head.len() <= self.max_line_bytes {
                each(Line::Whole(without_return(head)));
                continue;
            }
            self.keep(head);
            self.finish(&mut each);
        }
        self.keep(bytes);
    }

    /// Gives what was begun and never ended. To be called at the end of the stream.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.dropped_bytes > 0 {
            each(Line::TooLong(std::mem::take(&mut self.dropped_bytes)));
        } else if !self.begun.is_empty() {
            each(Line::Whole(without_return(&self.begun)));
        }
        // Give the memory of a giant back; keep that of ordinary lines.
        if self.begun.capacity() > 1 << 20 {
            self.begun = Vec::new();
        }
        self.begun.clear();
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.dropped_bytes > 0 {
            self.dropped_bytes += bytes.len() as u64;
        } else if self.begun.len() + bytes.len() > self.max_line_bytes {
            self.dropped_bytes = (self.begun.len() + bytes.len()) as u64;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}

/// Where the first line feed is. Eight bytes at a time: a line is read once more only, to be understood.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const FEEDS: u64 = u64::from_ne_bytes([b'\n'; 8]);
    // A byte of 0 borrows from its neighbour: not every byte that this marks is one, but some byte is marked iff one is.
    let holds_feed = |word: u64| (word ^ FEEDS).wrapping_sub(ONES) & !(word ^ FEEDS) & HIGHS;
    let (blocks, _) = bytes.as_chunks::<32>();
    let clean = blocks.iter().take_while(|block| {
        let (words, _) = block.as_chunks::<8>();
        words.iter().fold(0, |found, word| found | holds_feed(u64::from_ne_bytes(*word))) == 0
    });
    let from = clean.count() * 32;
    bytes.get(from..)?.iter().position(|byte| *byte == b'\n').map(|at| from + at)
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(splitter: &mut LineSplitter, chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut each = |line: Line<'_>| {
            lines.push(match line {
                Line::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Line::TooLong(bytes) => format!("<{bytes} bytes>"),
            });
        };
        for chunk in chunks {
            splitter.push(chunk, &mut each);
        }
        splitter.finish(&mut each);
        lines
    }

    #[test]
    fn a_line_arrives_whole_however_it_is_cut() {
        let text = b"one\ntwo\r\n\nlast";
        let whole = split(&mut LineSplitter::new(100), &[text]);
        assert_eq!(whole, ["one", "two", "", "last"]);
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(split(&mut LineSplitter::new(100), &[head, tail]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_feed_is_found_wherever_it_is() {
        for length in 0..200 {
            for at in 0..=length {
                let mut bytes: Vec<u8> = (0..length).map(|n| [0x8a, 0x0b, 0x00, 0xff, 0x09][n % 5]).collect();
                bytes.extend([b'\n', b'x', b'\n'].iter().take(if at < length { 3 } else { 0 }));
                if let Some(byte) = bytes.get_mut(at).filter(|_| at < length) {
                    *byte = b'\n';
                }
                assert_eq!(line_end(&bytes), (at < length).then_some(at), "{at} of {length}");
            }
        }
    }

    #[test]
    fn an_over_long_line_costs_no_memory_and_spoils_no_neighbour() {
        let mut splitter = LineSplitter::new(8);
        let lines = split(&mut splitter, &[b"a\n1234567", b"89", b"0123\nb\n123456789\nc"]);
        assert_eq!(lines, ["a", "<13 bytes>", "b", "<9 bytes>", "c"]);
    }
}
