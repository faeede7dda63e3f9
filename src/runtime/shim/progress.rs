//! What processes on their way to their command have to tell.

use std::io;
use std::os::fd::OwnedFd;

use super::container::Starting;
use super::protocol::{Answer, Progress, Refusal};
use super::serve::{Shim, end};
use super::{clock, pod_processes, socket};

impl Shim {
    /// Takes what a starting container has to tell.
    pub(super) fn container_progress(&mut self, index: usize) {
        let container = &mut self.containers[index];
        let Some(starting) = &mut container.starting else { return };
        let mut told = Told::default();
        let over = read_progress(starting, &mut told);
        container.user = told.user.or(container.user.take());
        container.streams.terminal = told.terminal.or(container.streams.terminal.take());
        if let Some(pid) = told.process {
            match pidfd_of(pid) {
                Ok(pidfd) => {
                    container.proc_pid = pod_processes::proc_pid(&pidfd).unwrap_or(0);
                    (container.pid, container.pidfd) = (pid, pidfd);
                    if let Some(foreign) = &mut container.foreign {
                        foreign.made = true;
                    }
                }
                // Its end has been seen already, or is not to be seen any more.
                Err(error) => starting.error = Some(format!("find process {pid}: {error}")),
            }
        }
        if !over {
            return;
        }
        let Some(Starting { reply_to, mut error, .. }) = container.starting.take() else { return };
        if container.foreign.as_ref().is_some_and(|foreign| !foreign.made) && error.is_none() {
            error = Some("the runtime's driver ended before the container was made".to_owned());
        }
        let result = match error {
            Some(detail) => {
                if container.foreign.is_some() {
                    // Made, but not started.
                    end(container);
                }
                Err(Refusal::Start { detail })
            }
            None => {
                container.started_at = clock::now();
                // Looked at again: at birth the process may still have been on its way into its own.
                container.mount_namespace =
                    pod_processes::mount_namespace(&container.proc_pid.to_string()).ok().or(container.mount_namespace);
                Ok(Answer::Started(container.started()))
            }
        };
        self.reply(reply_to.0, reply_to.1, result, &[]);
        let foreign = self.containers[index].foreign.as_mut();
        if let Some(exit_code) = foreign.and_then(|foreign| foreign.ended.take()) {
            self.first_process_ended(index, exit_code);
        }
    }

    /// Takes what a starting command has to tell.
    pub(super) fn exec_progress(&mut self, pid: i32) {
        let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) else { return };
        let exec = &mut self.execs[index];
        let Some(starting) = &mut exec.starting else { return };
        let mut told = Told::default();
        let over = read_progress(starting, &mut told);
        exec.terminal = told.terminal.or(exec.terminal.take());
        // Its driver is on its way out; from now on it is the command that is waited for.
        exec.pid = told.process.unwrap_or(exec.pid);
        if !over {
            return;
        }
        let terminal = exec.terminal.take();
        let Some(Starting { reply_to, error, .. }) = exec.starting.take() else { return };
        let result = match error {
            Some(detail) => Err(Refusal::Start { detail }),
            None => Ok(Answer::Done),
        };
        self.reply(reply_to.0, reply_to.1, result, &terminal.into_iter().collect::<Vec<_>>());
        let pid = self.execs[index].pid;
        if let Some(exit_code) = self.unknown.remove(&pid) {
            self.exec_ended(pid, exit_code);
        }
    }
}

/// What a starting process has said.
#[derive(Default)]
struct Told {
    user: Option<k3s_cri::ContainerUser>,
    terminal: Option<OwnedFd>,
    /// The process that is meant, in this process's numbers.
    process: Option<i32>,
}

/// Reads what there is. `true`: all is said.
fn read_progress(starting: &mut Starting, told: &mut Told) -> bool {
    loop {
        match socket::receive::<Progress>(&starting.progress) {
            Ok(Some((Progress::User(who), _))) => told.user = Some(who),
            Ok(Some((Progress::Console, mut descriptors))) => {
                if let Some(fd) = descriptors.pop() {
                    let _ = rustix::io::ioctl_fionbio(&fd, true);
                    told.terminal = Some(fd);
                }
            }
            Ok(Some((Progress::Error(detail), _))) => starting.error = Some(detail),
            Ok(Some((Progress::Process { pid }, _))) => told.process = Some(pid),
            // Words of a bundle's process, which a shim has none of.
            Ok(Some(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(None) | Err(_) => return true,
        }
    }
}

fn pidfd_of(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}
