//! Files whose damage shows: a line of JSON, and a line with its hash.
//!
//! There is one way to write a value, to the byte, so that whatever is not exactly that is damage: a bit that flipped, an
//! end that is missing, a file of somebody else's.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A sealed file is never longer.
const MAX_BYTES: u64 = 4 << 20;

/// So many files that were set aside are kept, of each name.
const KEPT_ASIDE: usize = 5;

/// The bytes to write for this line of JSON.
pub(crate) fn seal(json: &[u8]) -> Vec<u8> {
    [json, b"\n{\"sha256\":\"", sha256(json).as_bytes(), b"\"}\n"].concat()
}

/// In hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The JSON of sealed bytes; none if they are damaged.
pub(crate) fn open(bytes: &[u8]) -> Option<&[u8]> {
    let json = bytes.split(|byte| *byte == b'\n').next()?;
    (seal(json) == bytes).then_some(json)
}

/// What is at a path, without ever waiting for it or filling the memory with it.
///
/// # Errors
/// As of open and read; and if it is no file, or too long for one of ours.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too long"));
    }
    Ok(bytes)
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// Where it was.
    pub(crate) file: PathBuf,
    /// What it is called now; none if it could not be renamed.
    pub(crate) to: Option<PathBuf>,
    /// What is wrong with it.
    pub(crate) why: String,
}

impl std::fmt::Display for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not used: {}; ", self.file.display(), self.why)?;
        match &self.to {
            Some(to) => write!(f, "it was set aside as {}", to.display()),
            None => f.write_str("it could not be renamed, and will be written over"),
        }
    }
}

/// Give it the name `NAME.bad-N`; of those with such a name only the newest are kept.
pub(crate) fn set_aside(file: &Path, why: String) -> Aside {
    let before = asides(file);
    let number = before.iter().max().map_or(1, |newest| newest.saturating_add(1));
    let to = aside_name(file, number);
    let to = os::fail::point("file.set-aside").and_then(|()| std::fs::rename(file, &to)).is_ok().then_some(to);
    if to.is_some() {
        for old in before.into_iter().filter(|old| old.saturating_add(KEPT_ASIDE as u64) <= number) {
            let old = aside_name(file, old);
            // A folder under that name, perhaps: then it stays.
            std::fs::remove_file(old).ok();
        }
    }
    Aside { file: file.to_owned(), to, why }
}

fn aside_name(file: &Path, number: u64) -> PathBuf {
    let mut name = file.as_os_str().to_os_string();
    name.push(format!(".bad-{number}"));
    PathBuf::from(name)
}

fn asides(file: &Path) -> Vec<u64> {
    let entries = file.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let prefix = format!("{}.bad-", file.file_name().unwrap_or_default().to_string_lossy());
    entries.filter_map(|entry| entry.file_name().to_string_lossy().strip_prefix(&prefix)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cut_and_no_flipped_bit_goes_unseen() {
        let json = br#"{"v":2,"words":["a","b"]}"#;
        let sealed = seal(json);
        assert_eq!(open(&sealed), Some(&json[..]));
        for length in 0..sealed.len() {
            assert_eq!(open(&sealed[..length]), None, "cut to {length} bytes");
        }
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&damaged), None, "bit {bit}");
        }
        let longer = [&sealed[..], b"\n"].concat();
        assert_eq!(open(&longer), None);
    }

    #[test]
    fn what_is_set_aside_is_kept_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        for number in 1..=12_u64 {
            std::fs::write(&file, number.to_string()).unwrap();
            let aside = set_aside(&file, "why".to_owned());
            assert_eq!(std::fs::read_to_string(aside.to.unwrap()).unwrap(), number.to_string());
        }
        let mut kept = asides(&file);
        kept.sort_unstable();
        assert_eq!(kept, [8, 9, 10, 11, 12]);
        assert_eq!(set_aside(&file, "why".to_owned()).to, None, "there is none to rename");
        assert_eq!(asides(&file).len(), KEPT_ASIDE);
    }
}
