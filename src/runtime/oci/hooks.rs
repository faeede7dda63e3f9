//! Hooks: programs run at points of a container's life, with its state on their standard input.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::error::Error;

/// How much of what a hook printed is told.
const WORDS: u64 = 4096;

/// Runs hooks in order, up to the first that fails.
pub(super) fn run(kind: &'static str, hooks: &Option<Vec<Hook>>, state: &Value) -> Result<(), Error> {
    for (number, hook) in hooks.iter().flatten().enumerate() {
        run_one(hook, state).map_err(|reason| Error::Hook { kind, number, reason })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &Value) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| format!("{}: {error}", hook.path().display());
    if !hook.path().is_absolute() {
        return Err(text(&"path is not absolute"));
    }
    // In memory: a pipe has room for only so much, and nobody may be reading.
    let memory = |name: &str| rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let mut input = memory("state").map_err(|error| text(&error))?;
    input.write_all(state.to_string().as_bytes()).and_then(|()| input.rewind()).map_err(|error| text(&error))?;
    let mut words = memory("words").map_err(|error| text(&error))?;
    let output = || words.try_clone().map(Stdio::from).map_err(|error| text(&error));
    let args = hook.args().clone().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some(name) = args.first() {
        command.arg0(name).args(&args[1..]);
    }
    let environment = hook.env().clone().unwrap_or_default();
    let pairs = environment.iter().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(pairs).stdin(Stdio::from(input)).stdout(output()?).stderr(output()?);
    let mut child = command.spawn().map_err(|error| text(&error))?;
    if let Some(seconds) = hook.timeout()
        && !ends_within(child.id(), seconds)
    {
        // It has ended on its own, or ends now.
        let _ = child.kill();
        let _ = child.wait();
        return Err(text(&format!("killed after {seconds} s")));
    }
    let status = child.wait().map_err(|error| text(&error))?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    // What can't be read is not told; the status is.
    let _ = words.rewind();
    let _ = Read::by_ref(&mut words).take(WORDS).read_to_string(&mut said);
    Err(text(&format!("{status}: {}", said.trim())))
}

fn ends_within(pid: u32, seconds: i64) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return true };
    let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
    !matches!(rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)), Ok(0))
}

/// Are there any, so that the caller's way to them is worth going?
pub(super) fn any(hooks: &Option<Vec<Hook>>) -> bool {
    hooks.as_ref().is_some_and(|hooks| !hooks.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use oci_spec::runtime::HookBuilder;

    fn shell(script: &str, timeout: Option<i64>) -> Option<Vec<Hook>> {
        let mut hook = HookBuilder::default().path(Path::new("/bin/sh")).args(["sh", "-c", script].map(String::from));
        if let Some(seconds) = timeout {
            hook = hook.timeout(seconds);
        }
        Some(vec![hook.build().unwrap()])
    }

    #[test]
    fn hooks_get_the_state_and_say_why_they_fail() {
        let state = serde_json::json!({"id": "web"});
        run("poststop", &shell("test \"$(cat)\" = '{\"id\":\"web\"}'", None), &state).unwrap();
        let error = run("prestart", &shell("echo no network >&2; exit 3", None), &state).unwrap_err().to_string();
        assert_eq!(error, "error running prestart hook #0: /bin/sh: exit status: 3: no network");
        let error = run("prestart", &shell("exec sleep 100", Some(1)), &state).unwrap_err().to_string();
        assert_eq!(error, "error running prestart hook #0: /bin/sh: killed after 1 s");
    }
}
