//! Work in a process of its own.

use std::io::{self, Read, Write};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::namespaces;

/// Runs `work` in a short-lived copy of this process and returns what it returned. The launcher keeps its single
/// thread and its small memory, whatever threads and buffers the work takes.
///
/// # Errors
/// This process has more than one thread, or the copy ended without an answer.
pub(crate) fn in_child<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> T) -> io::Result<T> {
    namespaces::single_threaded().map_err(io::Error::other)?;
    let (mut answer, mut there) = io::pipe()?;
    // SAFETY: there is no other thread that could hold a lock in the copy.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(answer);
            // What it would print of a panic is for nobody, and its end is seen by the pipe.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            if let Ok(done) = done
                && let Ok(bytes) = serde_json::to_vec(&done)
            {
                // If the launcher is gone there is nobody to tell.
                let _ = there.write_all(&bytes);
            }
            // SAFETY: nothing of the launcher's may run in its copy, destructors included.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(there);
            let mut bytes = Vec::new();
            let read = answer.read_to_end(&mut bytes);
            waitpid(child, None)?;
            read?;
            serde_json::from_slice(&bytes).map_err(|_| io::Error::other("the process that was asked ended at once"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_without_an_answer_is_an_error_and_threads_of_the_work_stay_outside() {
        // The test harness runs each test in a thread of its own, so this is refused before it forks.
        assert!(in_child(|| 1).unwrap_err().to_string().contains("threads"));
    }
}
