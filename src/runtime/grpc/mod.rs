//! CRI v1 over gRPC, at the socket where k3s has containerd's: stock clients, such as `crictl`, work on our runtime.
//!
//! Source: <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto>. The messages and the
//! server's traits are generated from it (`k8s-cri`); here is only what becomes of each call.

mod archives;
mod filter;
mod http;
mod image_service;
mod metrics;
mod request;
mod response;
mod runtime_service;
mod status;
mod streams;
mod unix;

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::stream;
use k3s_cri::LOCAL_SOCKET;
use k8s_cri::v1::image_service_server::ImageServiceServer;
use k8s_cri::v1::runtime_service_server::RuntimeServiceServer;
use tokio::net::UnixStream;
use tonic::transport::Server;

use self::streams::Streams;
use crate::Runtime;

/// The runtime as a gRPC service.
#[derive(Clone)]
struct Service(Arc<Runtime>, Arc<Streams>);

/// Messages may carry outputs of commands: 16 MiB and the other stream's too, as containerd's limit.
const MESSAGE_LIMIT: usize = 33 << 20;

/// Serves CRI at a socket for the socket's owner, until `stop` is done; streams at a port of the loopback address and at
/// [`LOCAL_SOCKET`] beside it.
///
/// # Errors
/// When the socket can't be made or served.
pub async fn serve(runtime: Arc<Runtime>, socket: &Path, stop: impl Future<Output = ()>) -> io::Result<()> {
    let beside = http::Server::listen(runtime.clone(), socket).await?;
    let listener = unix::listen(socket)?;
    let incoming = stream::unfold(listener, |listener| async move {
        let accepted: io::Result<UnixStream> = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let service = Service(runtime, beside.streams.clone());
    let server = Server::builder()
        .add_service(RuntimeServiceServer::new(service.clone()).max_encoding_message_size(MESSAGE_LIMIT))
        .add_service(ImageServiceServer::new(service))
        .serve_with_incoming(incoming);
    // Not gracefully: streams of events have no end to wait for.
    let served = tokio::select! {
        served = server => served.map_err(io::Error::other),
        () = beside.serve() => Ok(()),
        () = stop => Ok(()),
    };
    beside.streams.close().await;
    let removed = std::fs::remove_file(socket);
    served.and(removed).and(std::fs::remove_file(socket.with_file_name(LOCAL_SOCKET)))
}
