//! `kill` and `delete`: the end of a container.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use oci_spec::runtime::ContainerState;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::error::{Doing, Error};
use super::journal::Journal;
use super::list;
use super::record::{Container, Record};
use super::{hooks, record::Process};
use crate::{cgroup, syscall};

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a signal to a process; one that has ended meanwhile needs none.
pub(super) fn signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Error> {
    match syscall::signal_process(pidfd.as_fd(), signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(Error::NotRunning),
        result => result.doing(format!("send signal {signal}")),
    }
}

/// `kill`: a signal to the first process, or with `all` to every process.
pub(super) fn kill(container: &Container, number: i32, all: bool) -> Result<(), Error> {
    let record = container.record()?.ok_or(Error::NotRunning)?;
    if all {
        return signal_all(&list::processes(&record), number);
    }
    let pidfd = record.process.and_then(Process::open).ok_or(Error::NotRunning)?;
    signal(&pidfd, number)
}

fn signal_all(processes: &[Process], number: i32) -> Result<(), Error> {
    for pidfd in processes.iter().filter_map(|process| process.open()) {
        match signal(&pidfd, number) {
            Ok(()) | Err(Error::NotRunning) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `delete`: takes away what `create` has made. With `force` also of a container that runs, and none being there is fine.
pub(super) fn delete(container: &Container, force: bool, journal: &Journal) -> Result<(), Error> {
    let record = container.record()?;
    let status = container.status(record.as_ref());
    if status != ContainerState::Stopped && !force {
        return Err(Error::NotStopped { id: container.id.clone(), status: name(status) });
    }
    match record {
        Some(record) => destroy(container, &record, journal),
        None => container.remove(),
    }
}

/// Ends what runs, clears what was made, runs the poststop hooks. The record goes before the hooks, as they are told
/// of a container that is no more.
pub(super) fn destroy(container: &Container, record: &Record, journal: &Journal) -> Result<(), Error> {
    // Without a pid namespace of their own, what the first process has started goes on after it.
    let others = list::processes(record);
    if let Some(pidfd) = record.process.and_then(Process::open) {
        match signal(&pidfd, libc::SIGKILL) {
            Ok(()) | Err(Error::NotRunning) => {}
            Err(error) => return Err(error),
        }
        let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).doing("wait for the end")?;
    }
    signal_all(&others, libc::SIGKILL)?;
    if let Some(path) = &record.cgroup {
        cgroup::remove(path).doing(format!("remove cgroup {}", path.display()))?;
    }
    let hooks = container.config()?.and_then(|spec| spec.hooks().clone());
    container.remove()?;
    let Some(hooks) = hooks else { return Ok(()) };
    // Each is run, whatever became of those before.
    for hook in hooks.poststop().iter().flatten() {
        let state = record.state(ContainerState::Stopped, 0);
        if let Err(error) = hooks::run("poststop", &Some(vec![hook.clone()]), &state) {
            journal.warn(&error.to_string());
        }
    }
    Ok(())
}

/// A status as the specification writes it.
pub(super) fn name(status: ContainerState) -> &'static str {
    match status {
        ContainerState::Creating => "creating",
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Stopped => "stopped",
    }
}
