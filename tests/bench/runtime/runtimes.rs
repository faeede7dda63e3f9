//! The runtimes that are measured, each with its state in a folder of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use k3s_cri::{Attachment, Error, PodNetwork, PodRef, PortMapping};
use k3s_runtime::{Cgroup, Options, Registries, Runtime};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::archive;

/// Which runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    K3s,
    Containerd,
}

/// One that runs, with busybox in it.
pub struct Server {
    pub directory: PathBuf,
    pub process: Child,
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

/// Pods of the benchmark are on the host's network: nothing is asked of this.
struct NoNetwork;

#[async_trait]
impl PodNetwork for NoNetwork {
    async fn add(&self, _: &PodRef, _: &Path, _: &[PortMapping]) -> Result<Attachment, Error> {
        Ok(Attachment::default())
    }

    async fn del(&self, _: &PodRef, _: Option<PathBuf>) -> Result<(), Error> {
        Ok(())
    }

    async fn gc(&self, _: &[String]) -> Result<(), Error> {
        Ok(())
    }

    async fn ready(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// `serve DIR`: our runtime alone.
pub fn serve(directory: &Path) -> ExitCode {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio");
    tokio.block_on(async {
        let socket = directory.join("cri.sock");
        let runtime = Runtime::open(Options {
            root: directory.join("root"),
            state: directory.join("state"),
            images_dir: directory.join("images"),
            network: Arc::new(NoNetwork),
            self_exe: "/proc/self/exe".into(),
            rootless: false,
            builtin_images: Vec::new(),
            cgroup: Cgroup::Unavailable("the benchmark asks for no limits".into()),
            registries: Registries::default(),
            snapshotter: Default::default(),
        })
        .await
        .expect("a runtime");
        for report in runtime.import_images().await {
            report.result.expect("an image");
        }
        k3s_runtime::serve_cri(runtime, &socket, std::future::pending()).await.expect("a served socket");
    });
    ExitCode::SUCCESS
}

/// `now FILE`: what containers run. Says when it began, and waits.
pub fn write_now(path: &Path) -> ExitCode {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    let part = path.with_extension("part");
    if std::fs::write(&part, nanos.to_string()).and_then(|()| std::fs::rename(&part, path)).is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// The monotonic clock, in nanoseconds.
pub fn now() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Starts a runtime and gives it busybox.
pub async fn start(target: Target, directory: &Path) -> Server {
    let images = directory.join("images");
    std::fs::create_dir_all(&images).expect("a folder");
    archive::docker(&images.join("busybox.tar"), "docker.io/library/busybox", &[archive::busybox_layer()], "");
    let socket = directory.join("cri.sock");
    let log = File::create(directory.join("log")).expect("a log");
    let mut command = match target {
        Target::K3s => {
            let mut command = Command::new("/proc/self/exe");
            command.arg("serve").arg(directory);
            command
        }
        Target::Containerd => {
            let config = directory.join("config.toml");
            std::fs::write(&config, containerd_config(directory)).expect("a configuration");
            let mut command = Command::new("containerd");
            command.arg("--config").arg(config);
            command
        }
    };
    command.stdout(log.try_clone().expect("the log")).stderr(log).kill_on_drop(true);
    let process = command.spawn().unwrap_or_else(|error| panic!("cannot start {target:?}: {error}"));
    wait_for(&socket).await;
    if target == Target::Containerd {
        import_into_containerd(directory, &socket).await;
    }
    let channel = connect(socket).await;
    let (runtime, images) = (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));
    Server { directory: directory.to_owned(), process, runtime, images }
}

async fn wait_for(socket: &Path) {
    let began = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "nothing answers at {}", socket.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn connect(socket: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?)) }
    });
    Endpoint::from_static("http://cri").connect_with_connector(connect).await.expect("a connection")
}

/// containerd with runc as Debian has it, in a folder of its own; the sandbox's image is busybox's, waiting.
fn containerd_config(directory: &Path) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    format!(
        r#"version = 2
root = "{}"
state = "{}"
[grpc]
  address = "{}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:latest"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{}"
    bin_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{}"
"#,
        path("root"),
        path("state"),
        path("cri.sock"),
        path("opt"),
        path("cni"),
        path("cni-bin"),
        path("certs.d"),
    )
}

async fn import_into_containerd(directory: &Path, socket: &Path) {
    let pause = directory.join("pause.tar");
    let layers = [archive::busybox_layer()];
    let mut config: serde_json::Value =
        serde_json::from_slice(&archive::config(&layers, "")).expect("the configuration is JSON");
    config["config"]["Cmd"] = serde_json::json!(["sleep", "1000000"]);
    config["config"]["WorkingDir"] = "/".into();
    archive::docker_of(&pause, "docker.io/library/pause", &layers, &config.to_string().into_bytes());
    for image in [pause, directory.join("images/busybox.tar")] {
        let mut import = Command::new("ctr");
        import.arg("-a").arg(socket).args(["-n", "k8s.io", "images", "import"]).arg(&image);
        let output = import.output().await.expect("ctr");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Server {
    /// Ends it; its pods must be gone.
    pub async fn stop(mut self) {
        self.process.kill().await.expect("the runtime's end");
    }
}
