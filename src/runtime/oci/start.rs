//! `start`: the command begins.

use oci_spec::runtime::ContainerState;

use super::error::{Doing, Error};
use super::hooks;
use super::init::Go;
use super::journal::Journal;
use super::record::{Container, Record};
use crate::shim::protocol::Progress;
use crate::shim::socket;

/// Lets the first process become the command. Fails if it can't; the container has stopped then.
pub(super) fn start(container: &Container, journal: &Journal) -> Result<(), Error> {
    let record = created(container)?;
    // Somebody else's `start` came between: the command runs.
    let connection = container.connect().ok_or(Error::Running)?;
    socket::send(&connection, &Go, &[]).doing("start")?;
    match socket::receive::<Progress>(&connection) {
        // Closed by `execve`.
        Ok(None) => {}
        // Another `start` was faster: its connection was accepted, this one went with the socket.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Err(Error::Running),
        Ok(Some((Progress::Error(detail), _))) => return Err(Error::Process(detail)),
        Ok(Some((word, _))) => return Err(Error::Process(format!("unexpected word {word:?}"))),
        Err(error) => return Err(error).doing("start"),
    }
    let hooks = container.config()?.and_then(|spec| spec.hooks().clone());
    if let (Some(hooks), Some(process)) = (hooks, record.process)
        && hooks::any(hooks.poststart())
    {
        let state = record.state(ContainerState::Running, process.pid);
        if let Err(error) = hooks::run("poststart", hooks.poststart(), &state) {
            // As the specification wants it: the container is stopped, the error told.
            if let Some(pidfd) = process.open() {
                super::end::signal(&pidfd, libc::SIGKILL)?;
            }
            journal.warn("the container is stopped, for a poststart hook failed");
            return Err(error);
        }
    }
    Ok(())
}

fn created(container: &Container) -> Result<Record, Error> {
    let record = container.record()?;
    let status = container.status(record.as_ref());
    match (record, status) {
        (Some(record), ContainerState::Created) => Ok(record),
        (_, ContainerState::Running) => Err(Error::Running),
        (_, ContainerState::Creating) => Err(Error::Creating { doing: "start" }),
        _ => Err(Error::Stopped { doing: "start" }),
    }
}
