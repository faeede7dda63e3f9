//! What is stored: ConfigMaps whose JSON is 500 bytes long when it is sent.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Method;

use crate::client::Client;
use crate::server::Server;

/// Where they are created.
pub const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
/// How long one is.
const LENGTH: usize = 500;
/// As many as kube-apiserver had created in the ten seconds it was measured in.
pub const COUNT: usize = 13_800;
const CONNECTIONS: usize = 16;

/// A ConfigMap to be created.
pub fn config_map(name: &str) -> Bytes {
    let head = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"text":""#);
    let tail = r#""}}"#;
    let text = "x".repeat(LENGTH - head.len() - tail.len());
    format!("{head}{text}{tail}").into()
}

/// Creates [`COUNT`] of them.
pub async fn fill(server: &Server) {
    let work = (0..CONNECTIONS).map(|first| async move {
        let mut client = Client::connect(server.address()).await.expect("a connection");
        for n in (first..COUNT).step_by(CONNECTIONS) {
            let body = config_map(&format!("object-{n}"));
            let (code, answer) = client.answer(Method::POST, COLLECTION, body).await.expect("an answer");
            assert!(code.is_success(), "a create is answered with {code}: {}", String::from_utf8_lossy(&answer));
        }
    });
    stream::iter(work).buffer_unordered(CONNECTIONS).collect::<Vec<()>>().await;
}
