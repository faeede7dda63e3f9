//! The API server by itself, over SQLite in a folder, with a self-signed certificate and static tokens:
//!
//! ```sh
//! cargo run --example standalone -- FOLDER TOKEN_FILE [PORT]
//! ```
//!
//! A line of the token file is `token,user,uid,"group1,group2"`. The port is printed when the server is ready.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use k3s_apiserver::authentication::Authenticated;
use k3s_apiserver::{ApiServer, Config, bootstrap, serve};
use k3s_kine::sqlite::{Options, Sqlite};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_util::sync::CancellationToken;

const USAGE: &str = "usage: standalone FOLDER TOKEN_FILE [PORT]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or(USAGE)?);
    let tokens = PathBuf::from(arguments.next().ok_or(USAGE)?);
    let port = arguments.next().map(|port| port.to_string_lossy().parse()).transpose()?.unwrap_or(0);
    std::fs::create_dir_all(&folder)?;

    let datastore = Arc::new(Sqlite::open(&folder.join("state.db"), Options::default())?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    let mut config = Config::new(datastore.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    config.advertise_port = address.port();
    config.authentication.token_file = Some(tokens);
    config.authentication.service_account_signing_key = Some(signing_key()?);
    let server = ApiServer::start(config).await?;

    let tls = serve::tls(certificate()?, server.authenticator().client_ca_names())?;
    let cancel = CancellationToken::new();
    let service = Authenticated::new(server.clone());
    let serving = tokio::spawn(serve::serve(vec![listener], tls, service, serve::Limits::default(), cancel.clone()));
    bootstrap::run(&server).await?;
    server.health().set_bootstrapped();
    println!("{}", address.port());
    tokio::signal::ctrl_c().await?;
    server.stop();
    cancel.cancel();
    serving.await??;
    datastore.close().await?;
    Ok(())
}

fn certificate() -> Result<Arc<dyn ResolvesServerCert>, Box<dyn Error>> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![cert.der().clone()], key))))
}

fn signing_key() -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(rcgen::KeyPair::generate()?.serialize_pem().into_bytes())
}
