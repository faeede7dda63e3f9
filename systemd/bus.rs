//! systemd over D-Bus.
//!
//! Functions here block, each with a connection and a runtime of its own that end with it: what asks is the
//! launcher, which must have a single thread, and asks once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use zbus::{Connection, OwnedObjectPath, Variant, connection};

/// Longer than systemd ever takes; a machine that has just booted may be slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this, what is left in a scope that is stopped is killed: a container's first process often has no handler
/// for SIGTERM, and would otherwise hold up every shutdown for the default of 90 s.
const STOP: Duration = Duration::from_secs(10);

/// What systemd says of a process that it has not started.
const NO_UNIT: &str = "org.freedesktop.systemd1.NoUnitForPID";

/// systemd could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error(
        "there is no bus of this user at {path:?} (install dbus-user-session and log in anew; after su or sudo there is no session)"
    )]
    NoBus { path: PathBuf },
    #[error("cannot {doing} over D-Bus: {source}")]
    Call { doing: &'static str, source: zbus::Error },
    #[error("systemd did not answer over D-Bus within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("systemd could not start the scope {unit}: {result}")]
    Job { unit: String, result: String },
    #[error("{path:?} is no unit's cgroup")]
    NoUnit { path: PathBuf },
    #[error("cannot start a runtime for D-Bus: {0}")]
    Runtime(std::io::Error),
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;

    fn attach_processes_to_unit(&self, name: &str, subcgroup: &str, pids: &[u32]) -> zbus::Result<()>;

    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// Has the user's systemd make a scope with `Delegate=yes` and move the process into it.
///
/// # Errors
/// There is no bus, or systemd refuses.
pub fn start_scope(unit: &str, pid: u32) -> Result<(), BusError> {
    let call = |source| BusError::Call { doing: "start a scope", source };
    block_on(async {
        let manager = ManagerProxy::new(&connect().await?).await.map_err(call)?;
        // systemd tells whoever asked for a job of its end.
        let mut ends = manager.receive_job_removed().await.map_err(call)?;
        let properties = [
            ("Description", Variant::from("Lightweight Kubernetes: server and pods (rootless)")),
            ("Delegate", Variant::from(true)),
            ("PIDs", Variant::from(vec![pid])),
            ("TasksMax", Variant::from(u64::MAX)),
            ("TimeoutStopUSec", Variant::from(STOP.as_micros() as u64)),
            // It is of no use once its processes have ended, however they did.
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        let job = manager.start_transient_unit(unit, "fail", &properties, &[]).await.map_err(call)?;
        while let Some(end) = ends.next().await {
            let args = end.args().map_err(call)?;
            if args.job == job {
                let result = args.result.clone();
                return if result == "done" { Ok(()) } else { Err(BusError::Job { unit: unit.to_owned(), result }) };
            }
        }
        Err(BusError::Timeout)
    })
}

/// Moves a process into a cgroup below that of a delegated unit, for which systemd asks its own parent where the
/// user's rights do not suffice.
///
/// # Errors
/// There is no bus, or systemd refuses.
pub fn attach(cgroup: &Path, leaf: &str, pid: u32) -> Result<(), BusError> {
    let unit = cgroup.file_name().and_then(|name| name.to_str()).filter(|name| name.contains('.'));
    let unit = unit.ok_or_else(|| BusError::NoUnit { path: cgroup.to_owned() })?;
    let call = |source| BusError::Call { doing: "move a process", source };
    block_on(async {
        let manager = ManagerProxy::new(&connect().await?).await.map_err(call)?;
        manager.attach_processes_to_unit(unit, &format!("/{leaf}"), &[pid]).await.map_err(call)
    })
}

/// What systemd knows of the service or scope that a process belongs to.
pub struct Unit {
    /// Its cgroup, below the mount point of the hierarchy.
    pub cgroup: PathBuf,
    /// Whether it was started with `Delegate=`.
    pub delegated: bool,
    /// `KillMode=`.
    pub kill_mode: String,
}

/// The service or scope of the user that a process belongs to; `None` where it is in no unit of the user's systemd, as
/// what was started in a session.
///
/// # Errors
/// There is no bus, or systemd does not say.
pub fn unit_of(pid: u32) -> Result<Option<Unit>, BusError> {
    let call = |source| BusError::Call { doing: "look a unit up", source };
    block_on(async {
        let connection = connect().await?;
        let manager = ManagerProxy::new(&connection).await.map_err(call)?;
        let path = match manager.get_unit_by_pid(pid).await {
            Ok(path) => path,
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_UNIT => return Ok(None),
            Err(error) => return Err(call(error)),
        };
        // A unit's object is named by the unit; `_2e` is its dot.
        let interface = match path.as_str().ends_with("_2escope") {
            true => "org.freedesktop.systemd1.Scope",
            false => "org.freedesktop.systemd1.Service",
        };
        let unit = zbus::Proxy::new(&connection, "org.freedesktop.systemd1", path, interface).await.map_err(call)?;
        let cgroup: String = unit.get_property("ControlGroup").await.map_err(call)?;
        Ok(Some(Unit {
            cgroup: cgroup.trim_start_matches('/').into(),
            delegated: unit.get_property("Delegate").await.map_err(call)?,
            kill_mode: unit.get_property("KillMode").await.map_err(call)?,
        }))
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BusError::Runtime)?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(BusError::Timeout)) })
}

async fn connect() -> Result<Connection, BusError> {
    let call = |source| BusError::Call { doing: "connect to the user's bus", source };
    let builder = match std::env::var("DBUS_SESSION_BUS_ADDRESS") {
        Ok(address) => connection::Builder::address(address.as_str()),
        Err(_) => {
            // Where logind puts it, also for a process that was not told, by a job of cron say.
            let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let path = runtime_dir.unwrap_or_else(|| format!("/run/user/{}", nix::unistd::getuid()).into()).join("bus");
            if !path.exists() {
                return Err(BusError::NoBus { path });
            }
            connection::Builder::address(format!("unix:path={}", path.display()).as_str())
        }
    };
    builder.build().await.map_err(call)
}
