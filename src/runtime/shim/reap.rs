//! Ends: of containers, of commands in them, of those who drive other runtimes.

use std::collections::HashMap;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::container::{Foreign, save_exit, was_oom_killed};
use super::log::Stream;
use super::protocol::{Exit, Message, Refusal};
use super::serve::Shim;
use super::{clock, pod_processes, start};

impl Shim {
    /// Takes note of everything that has ended.
    pub(super) fn reap(&mut self) {
        // A process that another runtime made is known from what its driver said before it began.
        (0..self.containers.len()).for_each(|index| self.container_progress(index));
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, exit_code) = match status {
                WaitStatus::Exited(pid, code) => (pid.as_raw(), code),
                WaitStatus::Signaled(pid, signal, _) => (pid.as_raw(), 128 + signal as i32),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if let Some(index) = self.containers.iter().position(|known| known.pid == pid && known.exit.is_none()) {
                self.first_process_ended(index, exit_code);
            } else if self.execs.iter().any(|known| known.pid == pid) {
                self.exec_ended(pid, exit_code);
            } else if self.namespaces.pod.as_ref().is_some_and(|init| init.pid == pid) {
                // All containers have ended with their namespace; no new one can start.
                self.namespaces.pod = None;
            } else if let Some((index, exit_code)) = self.deleted(pid) {
                self.container_ended(index, exit_code);
            } else if self.execs.iter().any(|exec| exec.starting.is_some()) {
                self.unknown.insert(pid, exit_code);
            }
        }
        if self.execs.iter().all(|exec| exec.starting.is_none()) {
            self.unknown = HashMap::new();
        }
    }

    /// The container whose runtime has forgotten it now, by the driver's pid, and its exit code.
    fn deleted(&self, pid: i32) -> Option<(usize, i32)> {
        let mut deleting = self.containers.iter().enumerate().filter_map(|(index, container)| {
            let (driver, exit_code) = container.foreign.as_ref()?.deleting?;
            (driver == pid && container.exit.is_none()).then_some((index, exit_code))
        });
        deleting.next()
    }

    /// The first process has ended. Where another runtime made it, that one cleans up before the end is told.
    pub(super) fn first_process_ended(&mut self, index: usize, exit_code: i32) {
        let container = &mut self.containers[index];
        if let (Some(foreign @ Foreign { made: true, .. }), true) =
            (&mut container.foreign, container.starting.is_some())
        {
            // The driver has more to say, and the start is to be answered first.
            foreign.ended = Some(exit_code);
            return;
        }
        let container = &self.containers[index];
        if let Some(foreign) = container.foreign.as_ref().filter(|foreign| foreign.made && foreign.deleting.is_none())
            && let Ok(driver) = start::delete(container, foreign, &self.namespaces)
        {
            if let Some(foreign) = &mut self.containers[index].foreign {
                foreign.deleting = Some((driver, exit_code));
            }
            return;
        }
        self.container_ended(index, exit_code);
    }

    fn container_ended(&mut self, index: usize, exit_code: i32) {
        if self.containers[index].starting.is_some() {
            // Its last words may still wait.
            self.container_progress(index);
        }
        let container = &mut self.containers[index];
        if let Some(starting) = container.starting.take() {
            let detail = format!("process ended before the command began (exit code {exit_code})");
            self.reply(starting.reply_to.0, starting.reply_to.1, Err(Refusal::Start { detail }), &[]);
        }
        let container = &mut self.containers[index];
        if let (false, Some(namespace)) = (container.own_pids, container.mount_namespace) {
            pod_processes::kill_in_mount_namespace(namespace);
        }
        // All writers are gone: what is in the pipes is all there is.
        for stream in [Stream::Stdout, Stream::Stderr] {
            while let Ok(true) = container.streams.read(stream, &mut container.log) {}
            let _ = container.log.finish(stream);
        }
        let oom_killed = exit_code == 128 + libc::SIGKILL && container.cgroup.as_deref().is_some_and(was_oom_killed);
        let exit = Exit { exit_code, finished_at: clock::now(), oom_killed };
        container.exit = Some(exit);
        container.streams.stdin = None;
        container.streams.terminal = None;
        container.streams.outputs = [None, None];
        for attached in &mut container.streams.attached {
            attached.flush();
        }
        // What a client has not read by now is in the log. Its streams end with the container.
        container.streams.attached.clear();
        if container.started_at == 0 {
            return;
        }
        // Without the file the exit code lives only as long as this shim.
        let _ = save_exit(&self.directory, &container.id, exit);
        let event = Message::ContainerExited { container: container.id.clone(), exit };
        self.tell(|_| true, &event, &[]);
    }

    pub(super) fn exec_ended(&mut self, pid: i32, exit_code: i32) {
        self.exec_progress(pid);
        // None: it was only the driver of another runtime, and the command goes by its own number now.
        let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) else { return };
        if self.execs[index].starting.is_some() {
            // The driver has more to say, and the start is to be answered first.
            self.unknown.insert(pid, exit_code);
            return;
        }
        let exec = self.execs.remove(index);
        self.tell(|number| number == exec.connection, &Message::ExecExited { exec: exec.number, exit_code }, &[]);
    }
}
