//! `kubectl exec` against a server that speaks the kubelet's side of the WebSocket protocol (`v5.channel.k8s.io`).

use std::ffi::OsString;
use std::path::Path;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"default"},"spec":{"containers":[{"name":"c"}]},"status":{"phase":"Running"}}"#;

/// Answers one request and closes; gives the request's head.
async fn answer(mut stream: TcpStream, body: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    let length = body.len();
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("an answer");
    String::from_utf8_lossy(&head).into_owned()
}

/// The remote side: writes to both streams, then ends with the status. Gives the path of the request.
async fn remote(stream: TcpStream, status: &str) -> String {
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let callback = |request: &Request, mut response: Response| {
        path = request.uri().to_string();
        response.headers_mut().insert("Sec-WebSocket-Protocol", "v5.channel.k8s.io".parse().expect("a header"));
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, callback).await.expect("an upgrade");
    for (channel, text) in [(1_u8, "out"), (2, "err"), (3, status)] {
        let mut frame = vec![channel];
        frame.extend_from_slice(text.as_bytes());
        socket.send(Message::binary(frame)).await.expect("a frame");
    }
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            break;
        }
    }
    path
}

async fn exec(status: &str, folder: &Path) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let kubeconfig = folder.join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c}}}}]\ncurrent-context: x\n"
    );
    std::fs::write(&kubeconfig, text).expect("a kubeconfig");
    let mut args: Vec<OsString> = vec!["--kubeconfig".into(), kubeconfig.into()];
    args.extend(["exec", "p", "--", "sh", "-c", "exit 3"].map(OsString::from));
    let server = async {
        let (first, _) = listener.accept().await.expect("a connection");
        let head = answer(first, POD).await;
        assert!(head.starts_with("GET /api/v1/namespaces/default/pods/p "), "{head}");
        let (second, _) = listener.accept().await.expect("a connection");
        remote(second, status).await
    };
    let (code, path) = tokio::join!(k3s_kubectl::run(args.into_iter()), server);
    (format!("{code:?}"), path)
}

#[tokio::test]
async fn the_exit_code_of_the_command_is_kubectls() {
    let folder = tempfile::tempdir().expect("a folder");
    let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with non-zero exit code","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
    let (code, path) = exec(failed, folder.path()).await;
    assert_eq!(code, format!("{:?}", std::process::ExitCode::from(3)));
    assert!(path.starts_with("/api/v1/namespaces/default/pods/p/exec?"), "{path}");
    for part in ["container=c", "command=sh", "command=exit+3", "stdout=true", "stderr=true"] {
        assert!(path.contains(part), "{part} in {path}");
    }
    let (code, _) = exec(r#"{"status":"Success"}"#, folder.path()).await;
    assert_eq!(code, format!("{:?}", std::process::ExitCode::SUCCESS));
}
