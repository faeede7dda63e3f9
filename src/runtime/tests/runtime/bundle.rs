//! A bundle of busybox, and `k3s oci` to run it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::archive;

/// What a command of `k3s oci` ended with.
#[derive(Debug, PartialEq)]
pub struct Ended {
    pub code: i32,
    pub output: String,
    pub error: String,
}

pub struct Bundle {
    pub directory: tempfile::TempDir,
}

impl Bundle {
    /// A bundle that runs a script, with its configuration changed.
    pub fn new(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bundle = Self { directory };
        let rootfs = bundle.path("rootfs");
        fs::create_dir(&rootfs).unwrap();
        let layer = archive::busybox_layer();
        let mut layer = tar::Archive::new(&layer[..]);
        layer.set_preserve_ownerships(false);
        layer.unpack(&rootfs).unwrap();
        let mut config = config(script);
        change(&mut config);
        bundle.configure(&config);
        bundle
    }

    pub fn configure(&self, config: &Value) {
        fs::write(self.path("config.json"), config.to_string()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `k3s oci` with its state in this directory.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg("oci").arg("--root").arg(self.path("state"));
        command.args(args).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end. What it prints goes to files: a container has them open as long as it runs.
    pub fn run(&self, args: &[&str]) -> Ended {
        let (out, err) = (self.path("out"), self.path("err"));
        let mut command = self.command(args);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let code = command.status().unwrap().code().unwrap_or(-1);
        let text = |path| fs::read_to_string(path).unwrap();
        Ended { code, output: text(out), error: text(err) }
    }

    /// Runs a command that must succeed; returns what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!((ended.code, ended.error.as_str()), (0, ""), "{args:?}");
        ended.output
    }

    /// Runs a command that must fail; returns why it did.
    pub fn refused(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 1, "{args:?}: {ended:?}");
        ended.error.trim().trim_start_matches("k3s oci: ").to_owned()
    }

    /// Makes a container whose output goes to the file `log`.
    pub fn create(&self, id: &str) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["create", "--pid-file", "pid", id]);
        let status = command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        assert!(status.success(), "{}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }

    /// Waits until the container stands so.
    pub fn wait_for(&self, id: &str, status: &str) {
        let began = Instant::now();
        while self.state(id)["status"] != status {
            assert!(began.elapsed() < Duration::from_secs(20), "{id} did not become {status}: {}", self.state(id));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Bundle {
    /// Also a test that fails leaves nothing behind.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("state")).into_iter().flatten().flatten() {
            let id = entry.file_name();
            let _ = self.command(&["delete", "--force", &id.to_string_lossy()]).stderr(Stdio::null()).status();
        }
    }
}

/// The configuration that `runc spec` writes, for this script.
pub fn config(script: &str) -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    let mount = |kind: &str, place: &str, options: &[&str]| json!({"type": kind, "source": kind, "destination": place, "options": options});
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "bundle",
        "mounts": [
            mount("proc", "/proc", &[]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
            mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/cpuinfo", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}
