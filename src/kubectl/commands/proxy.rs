//! `kubectl proxy`: the API on a local port, with the user's credentials.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use clap::Args;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::net::TcpListener;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::flags::Context;
use crate::say;

/// Names under which the proxy may be called: a page in a browser must not reach it by a name of its own.
const HOSTS: &[&str] = &["localhost", "127.0.0.1", "[::1]"];

/// Run a proxy to the Kubernetes API server
#[derive(Debug, Args)]
pub struct Proxy {
    /// The port on which to run the proxy. 0: a random one
    #[arg(short, long, default_value_t = 8001)]
    port: u16,
    /// The IP address on which to serve on
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Hosts that the proxy should accept besides the local ones
    #[arg(long, value_delimiter = ',')]
    accept_hosts: Vec<String>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

pub async fn run(args: Proxy, context: &Context) -> Result<(), Error> {
    let cluster = Arc::new(context.cluster().await?);
    let address = SocketAddr::from((args.address, args.port));
    let listener =
        TcpListener::bind(address).await.map_err(|error| Error::usage(format!("listen tcp {address}: {error}")))?;
    let address = listener.local_addr().map_err(|error| Error::usage(format!("listen tcp {address}: {error}")))?;
    say!("Starting to serve on {address}");
    let allowed: Arc<Vec<String>> =
        Arc::new(HOSTS.iter().map(|host| (*host).to_owned()).chain(args.accept_hosts).collect());
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| Error::usage(format!("accept: {error}")))?;
        let (cluster, allowed) = (cluster.clone(), allowed.clone());
        // Ends with its connection, or with the process.
        tokio::spawn(async move {
            let service = service_fn(|request| forward(&cluster, &allowed, request));
            if let Err(error) =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            {
                eprintln!("error: {error}");
            }
        });
    }
}

async fn forward(cluster: &Cluster, allowed: &[String], request: Request<Incoming>) -> Result<Answer, http::Error> {
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    if !allowed.iter().any(|own| own == name) {
        return plain(StatusCode::FORBIDDEN, "Forbidden");
    }
    if request.headers().contains_key(http::header::UPGRADE) {
        return plain(StatusCode::NOT_IMPLEMENTED, "upgraded connections (exec, attach, port-forward) are not proxied");
    }
    let (mut parts, body) = request.into_parts();
    for own in [http::header::HOST, http::header::AUTHORIZATION, http::header::CONNECTION] {
        parts.headers.remove(own);
    }
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match cluster.client.send(Request::from_parts(parts, Body::from(body))).await {
        Ok(mut answer) => {
            for own in [http::header::CONNECTION, http::header::TRANSFER_ENCODING] {
                answer.headers_mut().remove(own);
            }
            Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
        }
        Err(error) => plain(StatusCode::BAD_GATEWAY, &crate::kubeconfig::full_message(&error)),
    }
}

fn plain(status: StatusCode, text: &str) -> Result<Answer, http::Error> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body)
}
