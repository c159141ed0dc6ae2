//! The one place of this crate with raw system calls.

/// Rust starts programs with SIGPIPE ignored; `cata get pods | head -1` should end quietly like any other tool.
/// Long-running parts ignore it again through their own handlers where they write to sockets.
pub(crate) fn restore_sigpipe() {
    // SAFETY: called at the top of `main`, before any thread; setting a default disposition touches no memory of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// For daemons: a peer that hangs up must not end the process.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: as above; ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Gives back memory that nothing has used since the program started: freed pages that the allocator holds on to, and mapped pages
/// of the program's own code. What of the code is needed later is mapped again, out of the page cache.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes pages from free chunks only, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0)
    };
    if let Some((start, end)) = own_code() {
        // SAFETY: the range is one mapping of the program's file, private, and never written to since it cannot be; its pages
        // come back from the file when they are touched.
        let _ = unsafe { rustix::mm::madvise(start as *mut _, end - start, rustix::mm::Advice::LinuxDontNeed) };
    }
}

/// The mapping that holds this function: file-backed, executable, not writable.
fn own_code() -> Option<(usize, usize)> {
    let here = own_code as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (range, mode, inode) = (words.next()?, words.next()?, words.nth(2)?);
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        ((start..end).contains(&here) && mode == "r-xp" && inode != "0").then_some((start, end))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_given_back_comes_again() {
        let (start, end) = super::own_code().unwrap();
        assert!(start < end);
        super::give_back();
        assert_eq!(super::own_code(), Some((start, end)));
    }
}
