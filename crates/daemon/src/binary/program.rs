//! Is a file a program that this machine can execute? Told from its first bytes, before `execve` would say `ENOEXEC`.
//!
//! Facts: elf(5) for the headers, execve(2) and `fs/binfmt_script.c` for `#!`.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::script::Script;

/// Why a file is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfit {
    #[error("no such file")]
    Missing,
    #[error("no such file, and the store of its copies, {}, is gone", store.display())]
    StoreGone { store: PathBuf },
    #[error("it is a directory")]
    Directory,
    #[error("not a regular file")]
    NotAFile,
    #[error("not executable")]
    NotExecutable,
    #[error("cannot read it: {reason}")]
    Unreadable { reason: String },
    #[error("it is empty")]
    Empty,
    #[error("not a program")]
    NotAProgram,
    /// elf(5) `e_machine`.
    #[error("built for another kind of processor (ELF machine {machine})")]
    WrongMachine { machine: u16 },
    #[error("incomplete: {size_bytes} of at least {wanted_bytes} bytes")]
    Truncated { size_bytes: u64, wanted_bytes: u64 },
    #[error("its interpreter {} does not exist", interpreter.display())]
    InterpreterMissing { interpreter: PathBuf },
    #[error("it changed while it was read, {tries} times")]
    Unsettled { tries: u32 },
    /// It runs where it is, if at all.
    #[error("it is a script that looks for its own place, so a copy of it would not work")]
    Script,
    #[error("somebody has it open for writing")]
    BeingWritten,
    /// It can be executed, but is not what it should be.
    #[error("{why}")]
    Untried { why: String },
}

/// The kinds of program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    MachineCode,
    Script,
    /// A script of which a copy would not work.
    InPlace,
}

/// The kernel reads no more of a script's first line (`BINPRM_BUF_SIZE`).
const HEAD_BYTES: usize = 256;

pub(super) fn from_io(error: &io::Error) -> Unfit {
    match error.kind() {
        // A path with a file as a folder in it (ENOTDIR) leads nowhere either.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unfit::Missing,
        io::ErrorKind::PermissionDenied => Unfit::Unreadable { reason: "permission denied".to_owned() },
        _ => Unfit::Unreadable { reason: error.to_string() },
    }
}

/// What can be said without opening the file.
pub(super) fn check_metadata(metadata: &Metadata) -> Result<(), Unfit> {
    if metadata.is_dir() {
        Err(Unfit::Directory)
    } else if !metadata.is_file() {
        Err(Unfit::NotAFile)
    } else if metadata.permissions().mode() & 0o111 == 0 {
        Err(Unfit::NotExecutable)
    } else {
        Ok(())
    }
}

/// Which kind of program `file` is, and that it is complete.
pub(super) fn examine(file: &File, size_bytes: u64) -> Result<Program, Unfit> {
    let mut head = [0; HEAD_BYTES];
    let length = read_at(file, &mut head, 0).map_err(|error| from_io(&error))?;
    let head = &head[..length];
    if head.is_empty() {
        Err(Unfit::Empty)
    } else if let Some(line) = head.strip_prefix(b"#!") {
        check_interpreter(line)?;
        let script = Script::read(file, size_bytes).map_err(|error| from_io(&error))?;
        let is_copied = script.is_some_and(|script| !script.looks_for_its_place());
        Ok(if is_copied { Program::Script } else { Program::InPlace })
    } else if head.starts_with(b"\x7fELF") {
        check_elf(file, head, size_bytes).map(|()| Program::MachineCode)
    } else {
        Err(Unfit::NotAProgram)
    }
}

/// A missing interpreter makes `execve` say `ENOENT`, as if the script itself were missing.
fn check_interpreter(line: &[u8]) -> Result<(), Unfit> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    let name = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if name.is_empty() {
        return Err(Unfit::NotAProgram);
    }
    let interpreter = Path::new(OsStr::from_bytes(name));
    match interpreter.try_exists() {
        Ok(false) => Err(Unfit::InterpreterMissing { interpreter: interpreter.to_owned() }),
        Ok(true) | Err(_) => Ok(()),
    }
}

/// `e_machine` of what this processor executes; empty if unknown here. The 32-bit forms are the kernel's to refuse.
const MACHINES: &[u16] = if cfg!(target_arch = "x86_64") {
    &[62, 3]
} else if cfg!(target_arch = "aarch64") {
    &[183, 40]
} else if cfg!(target_arch = "riscv64") {
    &[243]
} else {
    &[]
};

/// Refuses what is no executable for this machine, and what ends before the headers say that it does: the sign of a copy
/// that is still under way, because a linker puts the section table at the end.
fn check_elf(file: &File, head: &[u8], size_bytes: u64) -> Result<(), Unfit> {
    const EXECUTABLE_TYPES: [u16; 2] = [2, 3];
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const HEADER_BYTES: usize = 64;

    let truncated = |wanted_bytes| Unfit::Truncated { size_bytes, wanted_bytes };
    if head.len() < HEADER_BYTES {
        return Err(truncated(HEADER_BYTES as u64));
    }
    if head[5] != LITTLE_ENDIAN {
        return if cfg!(target_endian = "little") { Err(Unfit::NotAProgram) } else { Ok(()) };
    }
    if !EXECUTABLE_TYPES.contains(&u16_at(head, 16)) {
        return Err(Unfit::NotAProgram);
    }
    let machine = u16_at(head, 18);
    if !MACHINES.is_empty() && !MACHINES.contains(&machine) {
        return Err(Unfit::WrongMachine { machine });
    }
    if head[4] != CLASS_64 {
        return Ok(());
    }

    let table_end = |offset: u64, entry: u16, count: u16| offset.saturating_add(u64::from(entry) * u64::from(count));
    let (segments, segment_bytes, segment_count) = (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56));
    let sections_end = table_end(u64_at(head, 40), u16_at(head, 58), u16_at(head, 60));
    let mut wanted_bytes = sections_end.max(table_end(segments, segment_bytes, segment_count));
    for n in 0..u64::from(segment_count) {
        let mut segment = [0; 56];
        let offset = segments.saturating_add(n * u64::from(segment_bytes));
        let length = read_at(file, &mut segment, offset).map_err(|error| from_io(&error))?;
        if length < segment.len() {
            break;
        }
        wanted_bytes = wanted_bytes.max(u64_at(&segment, 8).saturating_add(u64_at(&segment, 32)));
    }
    if size_bytes < wanted_bytes { Err(truncated(wanted_bytes)) } else { Ok(()) }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (0..8).rev().fold(0, |number, n| number << 8 | u64::from(bytes[at + n]))
}

/// Fills the buffer unless the file ends before.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset.saturating_add(length as u64)) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
