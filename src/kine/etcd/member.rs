//! The connection to one member, which is made when it is needed, and made again when it breaks.

use std::{io, time::Duration};

use futures::stream::{self, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::Codec,
    codegen::http::uri::{PathAndQuery, Uri},
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{endpoint::Address, failure::Failure};

/// The longest that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection on which nothing came for so long is tested, and is broken if no answer comes for as long again: a member
/// whose machine has gone says nothing.
const SILENCE: Duration = Duration::from_secs(3);

/// The time for a server to refuse this side's certificate, or to go on.
const VERDICT: Duration = Duration::from_millis(500);

/// What a connection is made of.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One member of a cluster.
pub(super) struct Member {
    pub(super) url: String,
    channel: Channel,
}

impl Member {
    pub(super) fn new(address: &Address) -> Result<Self, Failure> {
        let url = address.url();
        let unusable = |error: &dyn std::error::Error| Failure::Other(format!("{url}: {error}"));
        // To tonic it is never https: its own TLS takes no configuration of rustls.
        let plain = format!("http://{}", address.authority());
        let origin: Uri = url.parse().map_err(|error| unusable(&error))?;
        let endpoint = Endpoint::from_shared(plain)
            .map_err(|error| unusable(&error))?
            .origin(origin)
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .keep_alive_while_idle(true);
        let address = address.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let address = address.clone();
            async move { connect(&address).await.map(TokioIo::new) }
        });
        Ok(Self { channel: endpoint.connect_with_connector_lazy(connector), url })
    }

    /// Asks one question.
    pub(super) async fn unary<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Failure>
    where
        Q: Send + Sync + 'static,
        A: Send + Sync + 'static,
        ProstCodec<Q, A>: Codec<Encode = Q, Decode = A>,
    {
        let mut grpc = self.grpc().await?;
        let answer = grpc.unary(request(question), PathAndQuery::from_static(method), ProstCodec::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Asks one question, to which there are several answers. The stream of questions stays open as long as theirs.
    pub(super) async fn streaming<Q, A>(&self, method: &'static str, question: Q) -> Result<Streaming<A>, Failure>
    where
        Q: Send + Sync + 'static,
        A: Send + Sync + 'static,
        ProstCodec<Q, A>: Codec<Encode = Q, Decode = A>,
    {
        let mut grpc = self.grpc().await?;
        let questions = stream::once(async { question }).chain(stream::pending());
        let path = PathAndQuery::from_static(method);
        let answers = grpc.streaming(request(questions), path, ProstCodec::default()).await;
        answers.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Failure> {
        // Ranges are as large as what they have; etcd bounds what is written.
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|error| self.failure(&Status::from_error(Box::new(error))))?;
        Ok(grpc)
    }

    pub(super) fn failure(&self, status: &Status) -> Failure {
        Failure::new(&self.url, status)
    }
}

/// A request that a member which has no leader refuses at once, and whose stream of answers ends when it loses it.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &address.tls else { return Ok(Box::new(stream)) };
    let mut stream = TlsConnector::from(tls.config.clone()).connect(tls.name.clone(), stream).await?;
    // With TLS 1.3 a server looks at this side's certificate only now. Who writes at once to one that does not like it
    // finds a broken connection, and not why. Servers of HTTP/2 speak first, so this takes but a moment.
    match tokio::time::timeout(VERDICT, stream.fill_buf()).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(Box::new(stream)),
    }
}
