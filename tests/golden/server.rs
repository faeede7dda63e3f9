//! A server of an ordinary user without controllers, scheduler and node: nothing changes an object but the requests.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k3s_tests::{User, binary, eventually};

use crate::client::{Client, Request};

/// Of user admin, a member of system:masters: the name and group that were recorded.
const TOKEN: &str = "golden";

pub struct Server {
    process: Child,
    log: PathBuf,
    pub client: Client,
    // Removed with its home when the process has ended.
    _user: User,
}

impl Server {
    /// Starts a server with an empty datastore and waits until it is ready.
    pub fn start() -> Self {
        let user = User::create("golden");
        let tokens = user.home.join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n")).expect("a token file");
        let kubeconfig = user.home.join("k3s.yaml");
        let log = user.home.join("k3s.log");
        let address = free_address();
        let output = File::create(&log).expect("a log file");
        let process = user
            .command(&binary())
            .args(["server", "--disable-agent", "--disable-controller-manager", "--disable-scheduler"])
            .arg(format!("--data-dir={}", user.home.join("data").display()))
            .arg(format!("--write-kubeconfig={}", kubeconfig.display()))
            .arg(format!("--bind-address={}", address.ip()))
            .arg(format!("--https-listen-port={}", address.port()))
            .arg(format!("--kube-apiserver-arg=token-auth-file={}", tokens.display()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle of the log"))
            .stderr(output)
            .spawn()
            .expect("a started server");
        let mut starting = Starting(Some(process));
        let client = eventually("the server is ready", Duration::from_secs(90), || {
            starting.check(&log);
            ready(address, &kubeconfig).map_err(|error| format!("{error:#}\n{}", tail(&log)))
        });
        let process = starting.0.take().expect("the process just started");
        Self { process, log, client, _user: user }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of {}:\n{}", self.log.display(), tail(&self.log));
        }
        end(&mut self.process);
    }
}

/// A process that ends with a failed start.
struct Starting(Option<Child>);

impl Starting {
    fn check(&mut self, log: &Path) {
        let status = self.0.as_mut().and_then(|process| process.try_wait().expect("a child's status"));
        if let Some(status) = status {
            panic!("k3s ended with {status}:\n{}", tail(log));
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

fn end(process: &mut Child) {
    // Gone already is as good.
    let _ = process.kill();
    let _ = process.wait();
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the address of a listener")
}

/// A client of the server, when it says that it is ready.
fn ready(address: SocketAddr, kubeconfig: &Path) -> Result<Client> {
    let text = std::fs::read_to_string(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let config: serde_json::Value = serde_saphyr::from_str(&text).context("cannot read the kubeconfig")?;
    let authority = config["clusters"][0]["cluster"]["certificate-authority-data"].as_str();
    let authority = BASE64.decode(authority.context("a kubeconfig without a certificate authority")?)?;
    let client = Client::new(address, &authority, TOKEN)?;
    let answer = client.send(&Request::get("/readyz"))?;
    ensure!(answer.status == 200, "/readyz answers {}", answer.status);
    Ok(client)
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
