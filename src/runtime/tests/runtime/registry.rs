//! A registry in this process whose content and behaviour a test decides, and Debian's registry.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::archive::{self, digest};

/// How a registry misbehaves, and what it asks for.
#[derive(Default)]
pub struct Behaviour {
    /// Each answer with a blob breaks off after so many bytes.
    pub cut_after: Option<usize>,
    /// Ranges are not known.
    pub no_ranges: bool,
    /// Only with a token, which user and password get.
    pub password: Option<(String, String)>,
    /// Every blob has its first byte changed.
    pub damaged: bool,
}

#[derive(Default)]
pub struct Registry {
    pub behaviour: Behaviour,
    /// By path.
    content: Mutex<HashMap<String, (String, Vec<u8>)>>,
    /// How often each path was asked for.
    pub asked: Mutex<BTreeMap<String, usize>>,
    pub port: AtomicUsize,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Registry {
    pub async fn start(behaviour: Behaviour) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Arc::new(Self { behaviour, ..Self::default() });
        registry.port.store(listener.local_addr().unwrap().port().into(), Ordering::Relaxed);
        let serving = registry.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let registry = serving.clone();
                let service = hyper::service::service_fn(move |request| {
                    let registry = registry.clone();
                    async move { Ok::<_, Infallible>(registry.answer(&request)) }
                });
                tokio::spawn(async move {
                    // Connections that break are what some tests want.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        registry
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.load(Ordering::Relaxed))
    }

    pub fn requests(&self, part: &str) -> usize {
        self.asked.lock().iter().filter(|(path, _)| path.contains(part)).map(|(_, count)| count).sum()
    }

    fn put(&self, path: String, kind: &str, bytes: Vec<u8>) {
        self.content.lock().insert(path, (kind.to_owned(), bytes));
    }

    /// Adds an image of layers as they are stored, with their uncompressed forms. Returns its manifest's digest.
    pub fn image(&self, name: &str, tag: &str, layers: &[(&str, Vec<u8>, Vec<u8>)]) -> String {
        let plain: Vec<Vec<u8>> = layers.iter().map(|(_, _, plain)| plain.clone()).collect();
        let config = archive::config(&plain, "");
        let mut described = Vec::new();
        for (kind, stored, _) in layers {
            described.push(descriptor(kind, stored));
            self.put(format!("/v2/{name}/blobs/sha256:{}", digest(stored)), kind, stored.clone());
        }
        self.put(format!("/v2/{name}/blobs/sha256:{}", digest(&config)), "config", config.clone());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": described,
        });
        self.manifest(name, tag, MANIFEST, &manifest)
    }

    /// Adds a manifest or index under a tag and its digest.
    pub fn manifest(&self, name: &str, tag: &str, kind: &str, manifest: &Value) -> String {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = format!("sha256:{}", digest(&bytes));
        for reference in [tag, &digest] {
            self.put(format!("/v2/{name}/manifests/{reference}"), kind, bytes.clone());
        }
        digest
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        *self.asked.lock().entry(path.clone()).or_default() += 1;
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Some((user, password)) = &self.behaviour.password {
            use base64::Engine;
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            if path == "/token" {
                let query = request.uri().query().unwrap_or_default();
                let scope = query.contains("scope=repository%3Aapp%3Apull");
                return match header("authorization") == format!("Basic {basic}") && scope {
                    true => whole(StatusCode::OK, br#"{"token":"let-me-in","expires_in":300}"#.to_vec()),
                    false => whole(StatusCode::UNAUTHORIZED, Vec::new()),
                };
            }
            if header("authorization") != "Bearer let-me-in" {
                let mut response = whole(StatusCode::UNAUTHORIZED, Vec::new());
                let challenge = format!(
                    "Bearer realm=\"http://{}/token\",service=\"test\",scope=\"repository:app:pull\"",
                    self.host()
                );
                response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
                return response;
            }
        }
        let Some((kind, mut bytes)) = self.content.lock().get(&path).cloned() else {
            return whole(StatusCode::NOT_FOUND, br#"{"errors":[{"code":"NOT_FOUND"}]}"#.to_vec());
        };
        if !path.contains("/blobs/") {
            let mut response = whole(StatusCode::OK, bytes);
            response.headers_mut().insert("content-type", kind.parse().unwrap());
            return response;
        }
        if self.behaviour.damaged {
            bytes[0] ^= 1;
        }
        let total = bytes.len();
        let mut status = StatusCode::OK;
        let mut range = None;
        if let Some(start) = header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'))
            && !self.behaviour.no_ranges
        {
            let start: usize = start.parse().unwrap();
            bytes = bytes.split_off(start);
            status = StatusCode::PARTIAL_CONTENT;
            range = Some(format!("bytes {start}-{}/{total}", total - 1));
        }
        let length = bytes.len();
        let broken = self.behaviour.cut_after.filter(|cut| *cut < length);
        bytes.truncate(broken.unwrap_or(length));
        let mut pieces = vec![Ok(Frame::data(Bytes::from(bytes)))];
        if broken.is_some() {
            pieces.push(Err(std::io::Error::other("cut")));
        }
        let mut response = Response::builder().status(status).header("content-length", length);
        if let Some(range) = range {
            response = response.header("content-range", range);
        }
        response.body(StreamBody::new(futures::stream::iter(pieces)).boxed()).unwrap()
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
}

fn whole(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(bytes)).map_err(|never| match never {});
    Response::builder().status(status).body(body.boxed()).unwrap()
}

/// Debian's docker-registry as a process of the test.
pub struct DebianRegistry {
    process: Child,
    pub host: String,
}

impl DebianRegistry {
    /// Starts one in `directory`. `tls`: certificate and key. `password`: `edge` with the password `secret`.
    pub async fn start(directory: &Path, tls: Option<(&Path, &Path)>, password: bool) -> Self {
        // Nobody takes the port between: the kernel hands out others first.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        std::fs::create_dir_all(directory).unwrap();
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": directory.join("data")}},
            "http": {"addr": host},
        });
        if let Some((certificate, key)) = tls {
            config["http"]["tls"] = json!({"certificate": certificate, "key": key});
        }
        if password {
            let htpasswd = directory.join("htpasswd");
            // bcrypt of "secret".
            std::fs::write(&htpasswd, "edge:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n").unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": htpasswd}});
        }
        let path = directory.join("config.yml");
        // JSON is YAML.
        std::fs::write(&path, config.to_string()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        crate::node::until("the registry", || std::net::TcpStream::connect(&host).is_ok()).await;
        Self { process, host }
    }

    /// Pushes an image from an archive.
    pub fn push(&self, archive: &Path, name: &str, options: &[&str]) {
        let source = format!("docker-archive:{}", archive.display());
        let target = format!("docker://{}/{name}", self.host);
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .args(options)
            .args([source, target])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
