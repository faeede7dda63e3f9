//! A node whose runtime is served over CRI, and clients that were generated from its definition.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::node::{Node, until};

/// A node whose runtime is served, and a client.
pub struct Served {
    pub node: Node,
    pub socket: PathBuf,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: tokio::sync::oneshot::Sender<()>,
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

impl Served {
    pub async fn new() -> Self {
        let node = Node::new().await;
        let socket = node.path("root/containerd.sock");
        // What a crash left is no hindrance.
        std::fs::write(&socket, "").unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (runtime, path) = (node.runtime.clone(), socket.clone());
        let server = tokio::spawn(async move {
            k3s_runtime::serve_cri(runtime, &path, async {
                let _ = stopped.await;
            })
            .await
        });
        until("the socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
        let path = socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(path).await?)) }
        });
        let channel = Endpoint::from_static("http://cri").connect_with_connector(connect).await.unwrap();
        let (runtime, images) = (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));
        Self { node, socket, server, stop, runtime, images }
    }

    pub async fn end(self) {
        drop((self.runtime, self.images));
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
        assert!(!self.socket.exists());
        assert!(!self.socket.with_file_name(k3s_cri::LOCAL_SOCKET).exists());
        self.node.end().await;
    }

    pub fn pod(&self) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "web".into(),
                uid: "uid".into(),
                namespace: "default".into(),
                attempt: 1,
            }),
            hostname: "web".into(),
            log_directory: self.node.path("logs").display().to_string(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..Default::default()
        }
    }

    pub async fn container(&mut self, sandbox: &str, script: &str) -> Result<String, tonic::Status> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(image("busybox")),
            command: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            log_path: "main/0.log".into(),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(self.pod()),
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }
}

pub fn image(name: &str) -> ImageSpec {
    ImageSpec { image: name.into(), ..Default::default() }
}
