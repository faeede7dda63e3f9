//! PostgreSQL and MariaDB (packages postgresql and mariadb-server).

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use super::certificates;
use crate::free_port;

/// Neither server wants to be root.
const NOBODY: u32 = 65534;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
}

/// A server with a user `k3s`, whose password is `secret`, and a user `cert`, who needs a certificate. Stops when it is
/// dropped.
pub struct Server {
    pub kind: Kind,
    pub port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

/// A command as an ordinary user, which ends with the test.
fn ordinary(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if geteuid().is_root() {
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// Gives a folder and what is in it to the ordinary user.
fn give(path: &Path) {
    if !geteuid().is_root() {
        return;
    }
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

impl Server {
    /// Starts one with no databases yet, and waits until it serves.
    pub fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("tls");
        certificates::make(&certificates);
        give(folder.path());
        let mut server = Self { kind, port: free_port(), folder, child: None };
        match kind {
            Kind::Postgres => server.make_postgres(),
            Kind::Mariadb => server.make_mariadb(),
        }
        server.run();
        server
    }

    /// What is in its folder: `tls` has what [`certificates::make`] makes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The endpoint as k3s has it.
    pub fn endpoint(&self, login: &str, database: &str) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://{login}@localhost:{}/{database}?sslmode=disable", self.port),
            Kind::Mariadb => format!("mysql://{login}@tcp(127.0.0.1:{})/{database}", self.port),
        }
    }

    /// Executes statements as the server's own client does, and returns what it prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let mut client = match self.kind {
            Kind::Postgres => {
                let mut psql = Command::new(postgres("psql"));
                psql.args([
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &port,
                    "-U",
                    "k3s",
                    "-d",
                    database,
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-qAtc",
                    sql,
                ]);
                psql.env("PGPASSWORD", "secret");
                psql
            }
            Kind::Mariadb => {
                let mut mariadb = Command::new("mariadb");
                mariadb.args([
                    "--no-defaults",
                    "-h",
                    "127.0.0.1",
                    "-P",
                    &port,
                    "-u",
                    "k3s",
                    "-psecret",
                    "-N",
                    "-e",
                    sql,
                    database,
                ]);
                mariadb
            }
        };
        let output = client.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Cuts all connections of the user `k3s`.
    pub fn cut(&self) {
        let cut = match self.kind {
            Kind::Postgres => {
                let others = "FROM pg_stat_activity WHERE application_name = 'k3s'";
                self.sql("postgres", &format!("SELECT pg_terminate_backend(pid) {others}"));
                return;
            }
            Kind::Mariadb => Command::new("mariadb")
                .args(["--no-defaults", "-u", "root", "-e", "KILL CONNECTION USER 'k3s'", "--socket"])
                .arg(self.path("socket"))
                .status()
                .unwrap(),
        };
        assert!(cut.success());
    }

    /// Starts it, after the beginning or after [`Server::stop`].
    pub fn run(&mut self) {
        let (data, log) = (self.path("data"), self.path("log"));
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = ordinary(postgres("postgres"));
                command.arg("-D").arg(&data);
                for setting in [
                    &format!("port={}", self.port),
                    "listen_addresses=127.0.0.1",
                    &format!("unix_socket_directories={}", self.folder.path().display()),
                    "fsync=off",
                    "ssl=on",
                    &format!("ssl_cert_file={}", self.path("tls/server.crt").display()),
                    &format!("ssl_key_file={}", self.path("tls/server.key").display()),
                    &format!("ssl_ca_file={}", self.path("tls/ca.crt").display()),
                ] {
                    command.args(["-c", setting]);
                }
                command
            }
            Kind::Mariadb => {
                let mut command = ordinary("mariadbd");
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display())).args([
                    format!("--port={}", self.port),
                    "--bind-address=127.0.0.1".into(),
                    format!("--socket={}", self.path("socket").display()),
                    format!("--pid-file={}", self.path("pid").display()),
                    format!("--init-file={}", self.path("users.sql").display()),
                    format!("--ssl-ca={}", self.path("tls/ca.crt").display()),
                    format!("--ssl-cert={}", self.path("tls/server.crt").display()),
                    format!("--ssl-key={}", self.path("tls/server.key").display()),
                    "--skip-name-resolve".into(),
                    // What was committed outlives the process, if not the machine.
                    "--innodb-flush-log-at-trx-commit=2".into(),
                    "--innodb-buffer-pool-size=32M".into(),
                    "--innodb-log-file-size=8M".into(),
                    // Its temporary tables are named by its process id, which another namespace may have as well.
                    format!("--tmpdir={}", self.folder.path().display()),
                ]);
                command
            }
        };
        let output = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        self.child = Some(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        while !self.answers() {
            let over = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                Instant::now() < until && over.is_none(),
                "the server did not start: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn answers(&self) -> bool {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            return false;
        }
        match self.kind {
            Kind::Postgres => Command::new(postgres("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .unwrap()
                .success(),
            // It listens when it is ready.
            Kind::Mariadb => true,
        }
    }

    /// Ends it at once, as if the power had gone.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        match self.kind {
            // Its processes end with it by a quick stop; killed, they would hold its memory a while.
            Kind::Postgres => {
                let pid = Pid::from_raw(child.id().try_into().unwrap());
                kill(pid, Signal::SIGQUIT).unwrap();
            }
            Kind::Mariadb => child.kill().unwrap(),
        }
        child.wait().unwrap();
    }

    fn make_postgres(&self) {
        let password = self.path("password");
        fs::write(&password, "secret").unwrap();
        give(&password);
        let made = ordinary(postgres("initdb"))
            .arg("-D")
            .arg(self.path("data"))
            .args(["-U", "k3s", "--auth=scram-sha-256", "--no-sync", "--locale=C", "--encoding=UTF8"])
            .arg(format!("--pwfile={}", password.display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // The handshake that hides the password is costly where nothing is optimized; once is enough.
        let access = "local all all trust\nhostssl all cert 127.0.0.1/32 cert\n\
                      hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 password\n";
        fs::write(self.path("data/pg_hba.conf"), access).unwrap();
    }

    fn make_mariadb(&self) {
        let made = ordinary("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .args(["--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"])
            .arg(format!("--datadir={}", self.path("data").display()))
            .arg(format!("--tmpdir={}", self.folder.path().display()))
            .output()
            .unwrap();
        let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(made.status.success(), "{}{}", said(&made.stdout), said(&made.stderr));
        let users = self.path("users.sql");
        fs::write(
            &users,
            "CREATE USER IF NOT EXISTS 'k3s'@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON *.* TO 'k3s'@'%';\n\
             CREATE USER IF NOT EXISTS 'cert'@'%' REQUIRE X509;\nGRANT ALL ON *.* TO 'cert'@'%';\n",
        )
        .unwrap();
        fs::set_permissions(&users, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program of PostgreSQL, which Debian keeps in a folder for each version.
fn postgres(program: &str) -> PathBuf {
    let mut versions: Vec<_> = match fs::read_dir("/usr/lib/postgresql") {
        Ok(versions) => versions.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => return program.into(),
    };
    versions.sort();
    versions.last().map_or(program.into(), |version| version.join("bin").join(program))
}
