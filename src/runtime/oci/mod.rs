//! The executor as an OCI runtime: `k3s oci create|start|state|kill|delete …`, with the command line of runc.
//!
//! A container is what `create` has made of a bundle. What is known of it is in `<root>/<id>/`:
//!
//! | file | content |
//! |---|---|
//! | `config.json` | the bundle's configuration as it was at `create`; what the bundle says later counts for nothing |
//! | `record.json` | [`record::Record`], written before there is a process and after |
//! | `start.sock` | the container's first process listens here until it is started |
//!
//! Whether a container is `creating`, `created`, `running` or `stopped` is asked of the kernel each time: is its
//! process there, does it still listen? So a runtime killed at any instant leaves nothing that says the wrong thing.
//!
//! ```text
//! k3s oci create ─ clone3 ─► stage: joins and makes namespaces ─ clone3 (CLONE_PARENT) ─► first process
//!       │   ids mapped, cgroup joined, createRuntime hooks run               │ executor::launch
//!       └── writes the record, lets go ───────────────────────────────────── waits on start.sock, then execve
//! ```
//!
//! The process is made by the same [`crate::executor`] as a pod's containers. Sources: the OCI runtime specification
//! 1.2 (<https://github.com/opencontainers/runtime-spec>), and runc for what the specification leaves to the command.

mod cgroup;
mod command_line;
mod config;
mod create;
mod end;
mod error;
mod exec;
mod features;
mod foreground;
mod hooks;
mod init;
mod journal;
mod list;
mod namespaces;
mod record;
mod start;
mod streams;

use std::ffi::OsString;
use std::process::ExitCode;

/// The version of the specification this runtime follows.
const VERSION: &str = "1.2.0";

/// Runs `k3s oci`; `args` are those after `oci`. Must be called before the process has a second thread, since it forks.
/// Ends with the command's code, or 1 after saying on standard error (and in `--log`) what went wrong.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    command_line::run(args.collect())
}
