//! Reads `.rlog` files as a person would: by looking for lines. The tests' own eyes, apart from the product's decoder.

use std::fs;
use std::path::{Path, PathBuf};

/// One session's log.
#[derive(Clone, Debug)]
pub struct Rlog {
    pub path: PathBuf,
    pub text: String,
}

impl Rlog {
    /// A line of the header, `key: value`.
    pub fn header(&self, key: &str) -> Option<&str> {
        let header = self.text.strip_prefix("---\n")?.split("\n---").next()?;
        header.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
    }

    /// The value of `key=` in the first line that begins with the tag.
    pub fn field(&self, tag: &str, key: &str) -> Option<&str> {
        let line = self.text.lines().find(|line| line.split(' ').next() == Some(tag))?;
        let value = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches('"'))
    }

    /// Why it ended; `None` while it is open.
    pub fn end_reason(&self) -> Option<&str> {
        self.field("@end", "reason")
    }

    pub fn ends(&self) -> usize {
        self.text.lines().filter(|line| line.starts_with("@end ")).count()
    }

    pub fn last_line(&self) -> &str {
        self.text.lines().next_back().unwrap_or("")
    }
}

/// The logs under a working folder, oldest first by their names.
pub fn in_folder(working_folder: &Path) -> Vec<Rlog> {
    let days = fs::read_dir(working_folder.join("docs/logs")).into_iter().flatten().flatten();
    let files = days.flat_map(|day| fs::read_dir(day.path()).into_iter().flatten().flatten());
    let mut paths: Vec<PathBuf> = files.map(|file| file.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rlog"));
    // Without the extension: `…-2` is younger than the same name without a number.
    paths.sort_by_key(|path| path.with_extension(""));
    let read = |path: PathBuf| Rlog { text: fs::read_to_string(&path).unwrap_or_default(), path };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_and_the_end_are_found() {
        let text = "---\nformat: rlog/1\nid: abc\n---\n@start id=abc ts=1\nu: do it\n@end tokens_in=1 reason=done\n";
        let rlog = Rlog { path: PathBuf::new(), text: text.to_owned() };
        assert_eq!(rlog.header("id"), Some("abc"));
        assert_eq!(rlog.field("@start", "ts"), Some("1"));
        assert_eq!((rlog.end_reason(), rlog.ends()), (Some("done"), 1));
    }
}
