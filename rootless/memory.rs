//! Memory of the launcher, which waits for as long as the server runs.

use std::fs;

/// Gives back what was only needed to get here: the heap's free pages, and the pages of this program that were read
/// from its file. Those come back from the page cache when they are touched again, so only the few that waiting takes
/// stay in memory. A hint: where it fails nothing is lost but memory.
pub(crate) fn release() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes an integer and locks the allocator itself.
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(unwritten_file_mapping) {
        // SAFETY: the pages are mapped from a file and were never written (the mapping is not writable), so the kernel
        // reads the same bytes again at the next access. Nothing else maps or unmaps here: there is one thread.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Start and length, of a line of `/proc/self/maps`: `start-end r-xp offset device inode path`. Only what was loaded
/// without a change: relocated constants are read-only, too, but their pages are no longer the file's. Those the kernel
/// maps as they were made writable at first, which a static binary at a fixed address does for a mapping of its own.
fn unwritten_file_mapping(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let inode = fields.nth(2)?;
    if permissions != "r-xp" || inode == "0" {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_a_file_is_let_go() {
        let code = "00401000-00501000 r-xp 00001000 fe:00 1234 /usr/local/bin/k3s";
        assert_eq!(unwritten_file_mapping(code), Some((0x401000, 0x100000)));
        for other in [
            "00600000-00700000 rw-p 00000000 fe:00 1234 /usr/local/bin/k3s",
            "00600000-00700000 r--p 00000000 fe:00 1234 /usr/local/bin/k3s",
            "7fff0000-7fff2000 r-xp 00000000 00:00 0 [vdso]",
        ] {
            assert_eq!(unwritten_file_mapping(other), None);
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        release();
        assert_eq!(fs::read_to_string("/proc/self/comm").map(|c| c.is_empty()).ok(), Some(false));
    }
}
