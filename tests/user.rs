//! Ordinary users.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An account with a home and sub-ids, made for one test.
pub struct User {
    pub name: String,
    pub home: PathBuf,
    pub uid: u32,
}

impl User {
    /// Makes the account. `test` becomes part of the name, so that two tests do not meet.
    ///
    /// # Panics
    /// Without root, or if the account can't be made.
    pub fn create(test: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make users and need root");
        let name = format!("k3s-{test}");
        remove(&name);
        let home = PathBuf::from(format!("/home/{name}"));
        run("useradd", &["--create-home", "--home-dir", path(&home), "--shell", "/bin/sh", &name]);
        let id = nix::unistd::User::from_name(&name).expect("a readable user table").expect("the user just made");
        let user = Self { name, home, uid: id.uid.as_raw() };
        // Some useradd give sub-ids by themselves; a range of its own does no harm.
        let first = 1_000_000 + (user.uid % 1000) * 65_536;
        let range = format!("{first}-{}", first + 65_535);
        run("usermod", &["--add-subuids", &range, "--add-subgids", &range, &user.name]);
        user
    }

    /// A command that runs as this user, in the home, with an environment of its own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &self.name, "--regid", &self.name, "--init-groups", "--"])
            .arg(program)
            .current_dir(&self.home)
            .env_clear()
            .env("HOME", &self.home)
            .env("USER", &self.name)
            .env("LOGNAME", &self.name)
            .env("SHELL", "/bin/sh")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("XDG_RUNTIME_DIR", format!("/run/user/{}", self.uid));
        command
    }

    /// Processes of this user and of its sub-ids' pods: pid and command line.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
            let uid =
                status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
            let first = 1_000_000 + (self.uid % 1000) * 65_536;
            if !uid.is_some_and(|uid: u32| uid == self.uid || (first..first + 65_536).contains(&uid)) {
                continue;
            }
            if status.contains("State:\tZ") {
                continue;
            }
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()));
        }
        found
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if std::env::var_os("K3S_TEST_KEEP").is_some() {
            return;
        }
        for (pid, _) in self.processes() {
            // Gone already is as good.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        remove(&self.name);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

fn remove(name: &str) {
    // It may not be there.
    let _: Option<Output> = Command::new("userdel").args(["--force", "--remove", name]).output().ok();
    let _ = std::fs::remove_dir_all(format!("/home/{name}"));
}

fn run(program: &str, args: &[&str]) {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
