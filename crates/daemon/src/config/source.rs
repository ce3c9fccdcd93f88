//! The only part of the settings that touches the disk: reads the file, looks whether the working directory is there.

use super::load::Config;
use super::problem::{Fault, Place, Problem};
use super::value::Origin;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A file of settings is a page of text. The bound keeps `--config /dev/zero` from eating the memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The file, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FileSource {
    pub path: PathBuf,
    /// Named by `--config`: its absence is an error.
    pub required: bool,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Absent,
    Text(String),
    Unusable(Fault),
}

/// Reads the file at `path`, which [`super::config_path`] gave.
pub fn read((path, required): (PathBuf, bool)) -> FileSource {
    let unreadable = |error: std::io::Error| Content::Unusable(Fault::Unreadable { reason: reason(&error) });
    let content = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Content::Absent,
        Err(error) => closed_home(&path).filter(|_| !required).unwrap_or_else(|| unreadable(error)),
        Ok(file) => {
            let mut bytes = Vec::new();
            match file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes) {
                Err(error) => unreadable(error),
                Ok(_) if bytes.len() as u64 > MAX_FILE_BYTES => {
                    Content::Unusable(Fault::TooLarge { limit_bytes: MAX_FILE_BYTES })
                }
                Ok(_) => String::from_utf8(bytes).map_or(Content::Unusable(Fault::NotUtf8), Content::Text),
            }
        }
    };
    FileSource { path, required, content }
}

/// The file cannot even be looked at: that is its folder's fault.
fn closed_home(file: &Path) -> Option<Content> {
    let error = fs::symlink_metadata(file).err()?;
    let path = file.parent()?.to_owned();
    Some(Content::Unusable(Fault::ClosedHome { path, reason: reason(&error) }))
}

/// Whether the working directory exists. Not part of [`super::load`]: `autopilotd config` shows a setting even if it
/// leads nowhere yet.
///
/// # Errors
/// [`Fault::WorkingDir`], at the place where the path was chosen.
pub fn check_working_dir(config: &Config) -> Result<(), Problem> {
    let setting = &config.job.working_dir;
    let reason = match fs::metadata(&setting.value) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "not a directory".to_owned(),
        Err(error) => reason(&error),
    };
    let place = match &setting.origin {
        Origin::File { path, line } => Place::File { path: path.clone(), line: Some(*line) },
        Origin::Flag(name) => Place::Flag(name),
        Origin::Env(name) => Place::Env(name),
        Origin::Default | Origin::Follows(_) => Place::Nowhere,
    };
    Err(Problem { place, fault: Fault::WorkingDir { path: setting.value.clone(), reason } })
}

/// The operating system's words without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::NotADirectory => "not a directory".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_is_no_folder_is_named_and_not_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::write(&home, "").unwrap();
        let closed = Fault::ClosedHome { path: home.clone(), reason: "not a directory".to_owned() };
        assert_eq!(read((home.join("daemon.toml"), false)).content, Content::Unusable(closed));
        // A file that was asked for by its name is what is wrong.
        let unreadable = Fault::Unreadable { reason: "not a directory".to_owned() };
        assert_eq!(read((home.join("daemon.toml"), true)).content, Content::Unusable(unreadable));
    }
}
