//! What the runtime and a shim say to each other.
//!
//! A shim may be older than the k3s that talks to it: fields and variants are only ever added.

use std::path::PathBuf;

use k3s_cri::{ContainerUser, IdMappings, Nanos, PidMode};
use serde::{Deserialize, Serialize};

/// How a shim sets its sandbox up; `shim.json` in the sandbox's state directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxSetup {
    pub sandbox_id: String,
    pub host_network: bool,
    pub host_ipc: bool,
    pub pid: PidMode,
    /// The pod has a user namespace of its own, with these ids.
    #[serde(default)]
    pub user: Option<IdMappings>,
    /// Empty: the node's.
    pub hostname: String,
    /// Set in the sandbox's namespaces; failing to set one fails the sandbox.
    pub sysctls: Vec<(String, String)>,
    /// As `sysctls`, but where the kernel refuses they are left out (defaults nobody asked for).
    pub optional_sysctls: Vec<(String, String)>,
}

/// A request with the number its reply will carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    pub id: u64,
    pub request: Request,
}

/// What the runtime asks of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Which containers and what became of them.
    State,
    /// Descriptors: the mount of the k3s binary, for an image made of it.
    Start(StartContainer),
    /// Descriptors: the OCI process (memfd), stdin, stdout, stderr; with a terminal only the process.
    /// The reply carries the terminal's other end.
    Exec {
        exec: u64,
        container: String,
        terminal: bool,
        cgroup: Option<PathBuf>,
    },
    Signal {
        container: String,
        signal: i32,
    },
    KillExec {
        exec: u64,
    },
    Resize {
        container: String,
        width: u16,
        height: u16,
    },
    ReopenLog {
        container: String,
    },
    /// Descriptors: those of stdin, stdout, stderr that are true, in this order.
    Attach {
        container: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// The reply carries a TCP socket connected to the port on the sandbox's loopback address.
    Connect {
        port: u16,
    },
    /// Forget an exited container.
    Remove {
        container: String,
    },
    /// Kill everything and end.
    Shutdown,
}

/// What a container's process is started from.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartContainer {
    pub container: String,
    /// Directory with `config.json` (OCI runtime specification) and `rootfs.json`.
    pub bundle: PathBuf,
    pub log: PathBuf,
    pub terminal: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub pid: PidMode,
    /// Directory of the cgroup to join.
    pub cgroup: Option<PathBuf>,
    /// Who runs it, in place of the executor.
    #[serde(default)]
    pub runtime: Option<OciRuntime>,
    /// The container whose pid namespace it joins, in place of `pid`.
    #[serde(default)]
    pub target: Option<String>,
}

/// Another OCI runtime, run by its command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciRuntime {
    pub binary: PathBuf,
    /// Options before the subcommand.
    pub args: Vec<String>,
    /// Where it keeps what it knows of the sandbox's containers.
    pub root: PathBuf,
    pub cgroup: CgroupUse,
}

/// How another runtime's processes get into the cgroup that k3s has made for their container, if it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupUse {
    /// The runtime touches none: its processes are born there. `hidden`: it refuses to run where it sees a hierarchy
    /// that is half of version 1 and half of 2, so it sees none.
    Inherited { hidden: bool },
    /// The runtime puts them there.
    ByPath,
}

/// What a shim says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The sandbox stands. Pid and start time (clock ticks after boot) as `/proc` shows them.
    Ready {
        pid: i32,
        start_time: u64,
    },
    /// The sandbox could not be made; the shim ends.
    Failed {
        detail: String,
    },
    Reply {
        id: u64,
        result: Result<Answer, Refusal>,
    },
    ContainerExited {
        container: String,
        exit: Exit,
    },
    ExecExited {
        exec: u64,
        exit_code: i32,
    },
}

/// A request done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Started(Started),
    State { containers: Vec<KnownContainer> },
}

/// A container as a shim remembers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KnownContainer {
    pub container: String,
    /// `None` while it is being set up.
    pub started: Option<Started>,
    pub exit: Option<Exit>,
}

/// A request refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Refusal {
    NotFound,
    /// The user's doing: command not found, bad mount, …
    Start {
        detail: String,
    },
    Internal {
        detail: String,
    },
}

/// A container's first process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// As `/proc` shows it.
    pub pid: i32,
    pub user: Option<ContainerUser>,
    pub started_at: Nanos,
}

/// How a container ended; also the content of `<container id>.exit` in the sandbox's state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 128 + n when signal n ended it.
    pub exit_code: i32,
    pub finished_at: Nanos,
    pub oom_killed: bool,
}

/// What a starting process tells its shim. The socket's end without `Error` means that it runs.
#[derive(Debug, Serialize, Deserialize)]
pub enum Progress {
    /// Who it runs as, once looked up in the image.
    User(ContainerUser),
    /// Carries the terminal's other end.
    Console,
    /// It could not be started; what runc would say.
    Error(String),
    /// Of a bundle: it is in a new user namespace and waits for its ids to be mapped.
    UserNamespace,
    /// Of a bundle: carries a pidfd of the container's first process.
    Born,
    /// Of a bundle: everything is mounted; it waits for the hooks.
    Mounted,
    /// Of a bundle: it waits to be started.
    Ready,
    /// This process, a child of the shim's with that number in its pid namespace, is the one meant: another OCI runtime
    /// made it, or it was born into the pod's user namespace.
    Process { pid: i32 },
}
