//! The kubelet as a whole.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use k3s_client::Informers;
use k3s_cri::{ImageService, RuntimeService};
use k3s_streaming::Connections;
use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::Context;
use crate::events::{self, Outbox, Recorder};
use crate::node::facts::Facts;
use crate::pod::user_namespace::Ranges;
use crate::{image_gc, logs, node, pods};

/// Why a kubelet can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// /proc or the file system of the root folder could not be read.
    #[error("cannot find out what this machine has: {0}")]
    Facts(#[source] std::io::Error),
    /// The folder for volumes or logs could not be made.
    #[error("cannot create {path}: {source}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The pods of this node. Made once; [`Kubelet::run`] does the work, [`Kubelet::handle`] answers requests about it.
pub struct Kubelet {
    pub(crate) ctx: Arc<Context>,
    outbox: Mutex<Option<Outbox>>,
    /// Upgraded connections: exec, attach, port-forward.
    pub(crate) connections: Connections,
}

impl Kubelet {
    /// A kubelet that talks to the API with `client`, as `system:node:<name>`, and runs pods with `runtime`.
    /// Watches start at once, so that the first pods are known when [`Kubelet::run`] begins; must be called in a tokio
    /// runtime.
    ///
    /// # Errors
    /// When its folders can't be made or the machine's capacity can't be read.
    pub fn new(
        config: Config,
        client: kube::Client,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
    ) -> Result<Arc<Self>, Error> {
        for dir in [config.root_dir.join("pods"), config.pod_log_dir.clone()] {
            std::fs::create_dir_all(&dir).map_err(|source| Error::Folder { path: dir, source })?;
        }
        let facts = Facts::read(&config.root_dir, config.max_pods).map_err(Error::Facts)?;
        let informers = Informers::new(client.clone());
        let pods = informers.of_selected::<Pod>("", &format!("spec.nodeName={}", config.node_name));
        let services = informers.of::<Service>();
        let (recorder, outbox) = Recorder::new();
        let id_ranges = Ranges::new(config.root_dir.join("pods"), config.max_pods);
        let ctx = Context {
            config,
            facts,
            client,
            runtime,
            images,
            pods,
            services,
            recorder,
            id_ranges,
            _informers: informers,
        };
        Ok(Arc::new(Self { ctx: Arc::new(ctx), outbox: Mutex::new(Some(outbox)), connections: Connections::default() }))
    }

    /// Runs until `cancel`. Pods keep running; the next kubelet takes them up.
    pub fn run(&self, cancel: CancellationToken) -> BoxFuture<'_, ()> {
        // Boxed so that the pods' loops are compiled with this crate, not with each program that runs them.
        Box::pin(self.run_until(cancel))
    }

    async fn run_until(&self, cancel: CancellationToken) {
        let Some(outbox) = self.outbox.lock().take() else {
            tracing::error!("the kubelet runs already");
            return;
        };
        let ctx = &self.ctx;
        let events = async {
            let send = events::send(ctx.client.clone(), ctx.config.node_name.clone(), outbox);
            cancel.run_until_cancelled(send).await;
        };
        let rotate = async {
            cancel.run_until_cancelled(logs::rotate::run(ctx)).await;
        };
        let collect = async {
            cancel.run_until_cancelled(image_gc::run(ctx)).await;
        };
        tokio::join!(node::run(ctx, &cancel), pods::run(ctx.clone(), &cancel), events, rotate, collect);
        self.connections.close().await;
        tracing::info!(node = ctx.config.node_name, "kubelet stopped");
    }
}
