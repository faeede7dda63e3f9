//! A host for tests: files in a temporary folder.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{CheckError, HostPaths};

pub(crate) struct TestHost {
    pub root: PathBuf,
    pub paths: HostPaths,
}

impl TestHost {
    /// A host that has everything but programs.
    pub fn new(name: &str) -> Self {
        let root = env::temp_dir().join(format!("k3s-rootless-checks-{}-{name}", std::process::id()));
        let paths = HostPaths {
            passwd: root.join("passwd"),
            subuid: root.join("subuid"),
            subgid: root.join("subgid"),
            nsswitch: root.join("nsswitch"),
            proc: root.join("proc"),
            tun: root.join("tun"),
            search: vec![root.join("bin")],
        };
        let host = Self { root, paths };
        host.write("passwd", "root:x:0:0::/root:/bin/sh\nedge:x:1001:1001::/home/edge:/bin/sh\n");
        host.write("subuid", "edge:100000:65536\n");
        host.write("subgid", "1001:100000:65536\n");
        host.write("nsswitch", "passwd: files sss\n");
        host.write("tun", "");
        host.write("proc/sys/user/max_user_namespaces", "96365\n");
        host.write("proc/self/status", "Name:\tk3s\nNoNewPrivs:\t0\nCapEff:\t0000000000000000\n");
        host
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn program(&self, name: &str, mode: u32) {
        self.write(&format!("bin/{name}"), "#!/bin/sh\n");
        fs::set_permissions(self.root.join("bin").join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A program that does this.
    pub fn script(&self, name: &str, commands: &str) {
        // Written beside and renamed: another test's fork may hold the file open for writing, which keeps it from being
        // executed.
        let path = self.root.join("bin").join(name);
        let sh = std::process::Command::new("sh")
            .args([
                "-c",
                "mkdir -p \"${1%/*}\" && printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"",
                "sh",
            ])
            .arg(&path)
            .arg(commands)
            .status();
        assert!(sh.unwrap().success());
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The error says all of it, problem and remedy together.
pub(crate) fn message<T: std::fmt::Debug>(result: Result<T, CheckError>, needles: &[&str]) {
    let error = result.unwrap_err();
    let text = format!("{error}; {}", error.remedy());
    for needle in needles {
        assert!(text.contains(needle), "{needle:?} is not in: {text}");
    }
}
