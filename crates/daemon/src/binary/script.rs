//! What can be told of a script from its text, which has no headers: whether a copy of it would work, what it may be asked,
//! and whether it is whole.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;

use super::program;

/// More text than this is a bundle, which loads what lies beside it.
const MOST_BYTES: u64 = 16 << 20;
/// What a script says that looks for its own place, in the languages that workers are written in.
const OWN_PLACE: [&str; 9] =
    ["$0", "${0", "BASH_SOURCE", "__dirname", "__file__", "import.meta", "require(\"./", "require('./", "from ."];
/// Shells that can read a script without running it.
const SHELLS: [&str; 3] = ["sh", "bash", "dash"];

/// A script's text.
#[derive(Debug)]
pub(super) struct Script {
    text: Vec<u8>,
}

impl Script {
    /// `None`: it is none that can be looked through.
    pub(super) fn read(file: &File, size_bytes: u64) -> io::Result<Option<Self>> {
        if size_bytes > MOST_BYTES {
            return Ok(None);
        }
        let mut text = vec![0; usize::try_from(size_bytes).unwrap_or_default()];
        let length = program::read_at(file, &mut text, 0)?;
        text.truncate(length);
        Ok(text.starts_with(b"#!").then_some(Self { text }))
    }

    /// The one at this path, if it is one.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        Self::read(&file, size_bytes)
    }

    /// A copy of it would look for things where they are not.
    pub(super) fn looks_for_its_place(&self) -> bool {
        OWN_PLACE.iter().any(|word| self.contains(word))
    }

    /// Whoever ignores what it is asked would begin to work.
    pub(super) fn knows_version(&self) -> bool {
        self.contains("--version")
    }

    /// The command that reads the script at `path` and runs nothing of it, if its interpreter has such.
    pub(super) fn check(&self, path: &Path) -> Option<Vec<OsString>> {
        let line = self.text.split(|byte| *byte == b'\n').next()?.get(2..)?;
        let words: Vec<&str> = std::str::from_utf8(line).ok()?.split_ascii_whitespace().collect();
        let name = |word: &str| SHELLS.contains(&word.rsplit('/').next().unwrap_or_default());
        let shell = match words.as_slice() {
            [env, shell, ..] if env.ends_with("/env") && name(shell) => vec![*env, *shell],
            [shell, ..] if name(shell) => vec![*shell],
            _ => return None,
        };
        let mut argv: Vec<OsString> = shell.into_iter().chain(["-n"]).map(OsString::from).collect();
        argv.push(path.into());
        Some(argv)
    }

    fn contains(&self, word: &str) -> bool {
        self.text.windows(word.len()).any(|window| window == word.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script { text: text.as_bytes().to_vec() }
    }

    #[test]
    fn who_looks_for_its_place_is_known_by_its_words() {
        for (text, expected) in [
            ("#!/bin/sh\nexec claude \"$@\"\n", false),
            ("#!/bin/sh\ncd \"$(dirname \"$0\")\"\n", true),
            ("#!/bin/sh\n. ${0%/*}/common\n", true),
            ("#!/bin/bash\nsource \"${BASH_SOURCE[0]%/*}/x\"\n", true),
            ("#!/usr/bin/env node\nrequire('./lib')\n", true),
            ("#!/usr/bin/env node\nrequire('fs')\n", false),
            ("#!/usr/bin/env node\nnew URL(import.meta.url)\n", true),
            ("#!/usr/bin/python3\nfrom .x import y\n", true),
            ("#!/usr/bin/python3\nprint(1)\n", false),
        ] {
            assert_eq!(script(text).looks_for_its_place(), expected, "{text}");
        }
        assert!(script("#!/bin/sh\ncase $1 in --version) echo x;; esac\n").knows_version());
        assert!(!script("#!/bin/sh\nwork\n").knows_version());
    }

    #[test]
    fn a_shell_reads_it_without_running_it() {
        for (line, expected) in [
            ("#!/bin/sh -eu", "/bin/sh -n /x"),
            ("#! /usr/bin/bash", "/usr/bin/bash -n /x"),
            ("#!/usr/bin/env bash", "/usr/bin/env bash -n /x"),
            ("#!/usr/bin/env python3", ""),
            ("#!/usr/bin/zsh", ""),
            ("#!", ""),
        ] {
            let check = script(&format!("{line}\nexit 0\n")).check(Path::new("/x")).unwrap_or_default();
            let check: Vec<_> = check.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(check.join(" "), expected, "{line}");
        }
    }
}
