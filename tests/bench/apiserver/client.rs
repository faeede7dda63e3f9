//! Connections to the server: a request at a time over HTTP/1.1, or many streams over HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::TOKEN;

/// How one connection carries requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// One connection.
pub enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// For a request at a time.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        Self::connect_by(to, Protocol::Http1).await
    }

    pub async fn connect_by(to: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let stream = TokioIo::new(tls(to, protocol).await?);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Ok(Self::Http1(sender))
            }
            Protocol::Http2 => {
                let handshake = http2::handshake(TokioExecutor::new(), stream).await;
                let (sender, connection) = handshake.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Ok(Self::Http2(sender))
            }
        }
    }

    /// Sends a request; the answer's body is yet to be read.
    pub async fn send(&mut self, method: Method, path: &str, body: Bytes) -> hyper::Result<http::Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("a request");
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// The answer to a GET.
    pub async fn get(&mut self, path: &str) -> hyper::Result<(StatusCode, Bytes)> {
        self.answer(Method::GET, path, Bytes::new()).await
    }

    /// A whole answer.
    pub async fn answer(&mut self, method: Method, path: &str, body: Bytes) -> hyper::Result<(StatusCode, Bytes)> {
        let response = self.send(method, path, body).await?;
        let code = response.status();
        Ok((code, response.into_body().collect().await?.to_bytes()))
    }
}

async fn tls(to: SocketAddr, protocol: Protocol) -> io::Result<TlsStream<TcpStream>> {
    // The server was started a moment ago, on this machine, by this program.
    let mut config = ClientConfig::builder_with_provider(k3s_tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(k3s_tls::Server::by(k3s_tls::AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = vec![if protocol == Protocol::Http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
