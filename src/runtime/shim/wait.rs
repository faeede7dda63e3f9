//! What the shim waits for: one `poll` over everything.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags};

use super::log::Stream;
use super::serve::Shim;

/// What became ready.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Connection,
    Signal,
    Call { connection: u64 },
    ContainerProgress { container: usize },
    ExecProgress { pid: i32 },
    Output { container: usize, stream: Stream },
    Input { container: usize },
    AttachedInput { container: usize, attached: usize },
    AttachedOutput { container: usize },
}

/// Waits until something is ready. Indexes are good until containers change, which the caller minds.
pub(super) fn wait(shim: &Shim) -> Vec<Ready> {
    let mut what = Vec::new();
    let mut fds = Vec::new();
    let mut watch = |ready, fd, flags| {
        what.push(ready);
        fds.push(PollFd::from_borrowed_fd(fd, flags));
    };
    watch(Ready::Connection, shim.listener.as_fd(), PollFlags::IN);
    watch(Ready::Signal, shim.signals.as_fd(), PollFlags::IN);
    for connection in &shim.connections {
        watch(Ready::Call { connection: connection.number }, connection.socket.as_fd(), PollFlags::IN);
    }
    for (index, container) in shim.containers.iter().enumerate() {
        watch_container(index, container, &mut watch);
    }
    for exec in &shim.execs {
        if let Some(starting) = &exec.starting {
            watch(Ready::ExecProgress { pid: exec.pid }, starting.progress.as_fd(), PollFlags::IN);
        }
    }
    if rustix::event::poll(&mut fds, None).is_err() {
        return Vec::new();
    }
    let ready = fds.iter().zip(what).filter(|(fd, _)| !fd.revents().is_empty());
    ready.map(|(_, what)| what).collect()
}

fn watch_container<'a>(
    index: usize,
    container: &'a super::container::Container,
    watch: &mut impl FnMut(Ready, BorrowedFd<'a>, PollFlags),
) {
    if let Some(starting) = &container.starting {
        watch(Ready::ContainerProgress { container: index }, starting.progress.as_fd(), PollFlags::IN);
    }
    let streams = &container.streams;
    if !streams.is_held_back() {
        if let Some(terminal) = &streams.terminal {
            watch(Ready::Output { container: index, stream: Stream::Stdout }, terminal.as_fd(), PollFlags::IN);
        }
        for (stream, output) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&streams.outputs) {
            if let Some(output) = output {
                watch(Ready::Output { container: index, stream }, output.as_fd(), PollFlags::IN);
            }
        }
    }
    if !streams.input.is_empty()
        && let Some(input) = streams.terminal.as_ref().or(streams.stdin.as_ref())
    {
        watch(Ready::Input { container: index }, input.as_fd(), PollFlags::OUT);
    }
    for (number, attached) in streams.attached.iter().enumerate() {
        if let (Some(stdin), true) = (&attached.stdin, streams.input.is_empty()) {
            watch(Ready::AttachedInput { container: index, attached: number }, stdin.as_fd(), PollFlags::IN);
        }
        for (output, unsent) in attached.outputs.iter().zip(&attached.unsent) {
            if let Some(output) = output {
                // Without anything to write, only the reader's end is of interest, which is always reported.
                let flags = if unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                watch(Ready::AttachedOutput { container: index }, output.as_fd(), flags);
            }
        }
    }
}
