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
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, length) in unwritten_file_mappings(&maps) {
        // SAFETY: the pages are mapped from a file and none was ever written (the kernel counts none as the process's
        // own, and the mapping is not writable), so the kernel reads the same bytes again at the next access. Nothing
        // else maps or unmaps here: there is one thread.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Start and length of each mapping that is as its file has it, by `/proc/self/smaps`: a line as in `/proc/self/maps`
/// (`start-end r-xp offset device inode path`), and lines of counts. Relocated constants are read-only, too, but their
/// pages are no longer the file's: the kernel counts them as anonymous.
fn unwritten_file_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut of_a_file = None;
    for line in smaps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(count) if count.trim() == "0 kB" => found.extend(of_a_file.take()),
            Some(_) => of_a_file = None,
            None => of_a_file = file_mapping(line).or(of_a_file),
        }
    }
    found
}

fn file_mapping(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let inode = fields.nth(2)?;
    if !matches!(permissions, "r-xp" | "r--p") || inode == "0" {
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
    fn only_what_is_as_in_a_file_is_let_go() {
        let smaps = "\
00200000-00300000 r--p 00000000 fe:00 1234 /usr/local/bin/k3s
Rss:                 512 kB
Anonymous:             0 kB
00401000-00501000 r-xp 00001000 fe:00 1234 /usr/local/bin/k3s
Rss:                 512 kB
Anonymous:             0 kB
00600000-00700000 r--p 00000000 fe:00 1234 /usr/local/bin/k3s
Rss:                  64 kB
Anonymous:            16 kB
00700000-00800000 rw-p 00000000 fe:00 1234 /usr/local/bin/k3s
Rss:                   0 kB
Anonymous:             0 kB
7fff0000-7fff2000 r-xp 00000000 00:00 0 [vdso]
Rss:                   4 kB
Anonymous:             0 kB
";
        assert_eq!(unwritten_file_mappings(smaps), [(0x200000, 0x100000), (0x401000, 0x100000)]);
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        release();
        assert_eq!(fs::read_to_string("/proc/self/comm").map(|c| c.is_empty()).ok(), Some(false));
        assert_eq!("constants are still there".len(), 25);
    }
}
