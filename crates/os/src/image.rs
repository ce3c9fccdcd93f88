//! This process's own program, as it lies in memory.

#![expect(unsafe_code, reason = "madvise on the program's own code, and the loader's list of what that is")]

use std::ffi::{c_int, c_void};

/// Give the pages of the program's code and constants back to the kernel, which keeps them in its cache of the file. Those
/// that are needed again come back one by one, without the disk. What was needed once, such as by a start, is then nobody's cost.
///
/// Has no effect where the kernel refuses.
pub fn give_back_code() {
    // SAFETY: the function is called for each loaded object, by this thread, before this returns; it keeps nothing.
    unsafe { libc::dl_iterate_phdr(Some(give_back), std::ptr::null_mut()) };
}

/// Of the first object alone, which is the program (dl_iterate_phdr(3)): the libraries' pages are shared with everybody.
unsafe extern "C" fn give_back(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the loader's own description of a loaded object, valid while the callback runs.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    let page_bytes = rustix::param::page_size() as u64;
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let begin = (base + header.p_vaddr) / page_bytes * page_bytes;
        let end = base + header.p_vaddr + header.p_filesz;
        let Ok(length) = usize::try_from(end - begin) else { continue };
        let Ok(address) = usize::try_from(begin) else { continue };
        // SAFETY: a segment that is mapped from the file and was never writable: the kernel has every byte of it in the
        // file, and reads it from there at the next access. madvise(2), MADV_DONTNEED.
        unsafe { libc::madvise(address as *mut c_void, length, libc::MADV_DONTNEED) };
    }
    // Anything but zero ends the iteration.
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of this program's file that are mapped in and can't be written to, from `smaps`, proc(5).
    fn resident_kib() -> u64 {
        let program = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_ours = false;
        let mut kib = 0;
        for line in maps.lines() {
            if line.split(' ').nth(1).is_some_and(|word| word.len() == 4 && word.ends_with('p')) {
                is_ours = line.ends_with(program.to_str().unwrap()) && !line.contains(" rw");
            } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| is_ours) {
                kib += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        kib
    }

    #[test]
    fn code_is_given_back_and_comes_back() {
        // Whatever this touches, all of the formatting and the test harness has been used before.
        let before = resident_kib();
        give_back_code();
        let after = resident_kib();
        assert!(after < before, "{before} KiB were resident, {after} KiB are");
        assert!(after > 0, "the code that reads this is resident");
    }
}
