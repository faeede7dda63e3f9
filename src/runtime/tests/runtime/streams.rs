//! The URLs that CRI's Exec, Attach and PortForward return, and what comes over them.

use futures::{SinkExt, StreamExt};
use http::Uri;
use k3s_cri::{Streams, TerminalSize};
use k3s_streaming::client;
use k8s_cri::v1::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tonic::Code;

use crate::served::Served;

/// A node with a pod whose container sleeps, and the container's id.
async fn sleeping() -> (Served, String, String) {
    let mut served = Served::new().await;
    let request = RunPodSandboxRequest { config: Some(served.pod()), runtime_handler: String::new() };
    let pod = served.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let id = served.container(&pod, "exec sleep 1000").await.unwrap();
    served.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    (served, pod, id)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn exec_url(served: &mut Served, id: &str, cmd: &[&str]) -> Uri {
    let request = ExecRequest {
        container_id: id.to_owned(),
        cmd: words(cmd),
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
    };
    served.runtime.exec(request).await.unwrap().into_inner().url.parse().unwrap()
}

/// Input that has been written and ended.
async fn given(text: &str) -> Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
    let (mut to, from) = duplex(1024);
    to.write_all(text.as_bytes()).await.unwrap();
    Some(Box::new(from))
}

async fn all(mut from: DuplexStream) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).await.unwrap();
    text
}

pub async fn a_command_has_its_streams_over_spdy() {
    let (mut served, _, id) = sleeping().await;
    let url = exec_url(&mut served, &id, &["sh", "-c", "cat; echo problem >&2; exit 7"]).await;
    assert!(url.host() == Some("127.0.0.1") && url.path().starts_with("/exec/"), "{url}");
    let (stdout, out) = duplex(1024);
    let (stderr, err) = duplex(1024);
    let streams = Streams {
        stdin: given("to be echoed\n").await,
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
        resize: None,
    };
    let connection = client::dial(&url).await.unwrap();
    let (code, out, err) = tokio::join!(client::remote_command(connection, &url, streams), all(out), all(err));
    assert_eq!((code.unwrap(), out.as_str(), err.as_str()), (7, "to be echoed\n", "problem\n"));

    // What can't be run says why, and the socket beside CRI's leads to the same server.
    let url = exec_url(&mut served, &id, &["absent"]).await;
    let (stdout, _out) = duplex(1024);
    let (stderr, _err) = duplex(1024);
    let streams = Streams {
        stdin: given("").await,
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
        resize: None,
    };
    let socket = served.socket.with_file_name(k3s_cri::LOCAL_SOCKET);
    let connection = UnixStream::connect(&socket).await.unwrap();
    let error = client::remote_command(connection, &url, streams).await.unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
    served.end().await;
}

async fn websocket(url: &Uri, protocol: &'static str) -> WebSocketStream<TcpStream> {
    let mut request = url.clone().into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    let connection = client::dial(url).await.unwrap();
    *request.uri_mut() = url.to_string().replacen("http", "ws", 1).parse().unwrap();
    let (socket, answer) = tokio_tungstenite::client_async(request, connection).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
    socket
}

/// Reads binary messages, and joins what came on each channel.
async fn channels<const N: usize>(socket: &mut WebSocketStream<TcpStream>) -> [String; N] {
    let mut channels = [const { String::new() }; N];
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(data) => {
                channels[usize::from(data[0])] += std::str::from_utf8(&data[1..]).unwrap();
            }
            Message::Close(_) => break,
            other => panic!("{other:?}"),
        }
    }
    channels
}

pub async fn a_command_has_its_streams_over_a_websocket() {
    let (mut served, _, id) = sleeping().await;
    let url = exec_url(&mut served, &id, &["sh", "-c", "cat; echo problem >&2; exit 7"]).await;
    let mut socket = websocket(&url, "v5.channel.k8s.io").await;
    for message in [&b"\0to be echoed"[..], &[255, 0]] {
        socket.send(Message::Binary(message.to_vec().into())).await.unwrap();
    }
    let [_, out, err, status] = channels(&mut socket).await;
    assert_eq!((out.as_str(), err.as_str()), ("to be echoed", "problem\n"));
    assert!(status.contains("NonZeroExitCode") && status.contains("\"7\""), "{status}");
    served.end().await;
}

pub async fn a_terminal_is_resized() {
    let (mut served, _, id) = sleeping().await;
    let request = ExecRequest {
        container_id: id,
        cmd: words(&["sh", "-c", "until stty size 2>/dev/null | grep '45 123'; do :; done; exit 3"]),
        tty: true,
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let url: Uri = served.runtime.exec(request).await.unwrap().into_inner().url.parse().unwrap();
    let (sizes, resize) = tokio::sync::mpsc::channel(1);
    let (stdout, out) = duplex(1024);
    let (_to_stdin, stdin) = duplex(16);
    let streams =
        Streams { stdin: Some(Box::new(stdin)), stdout: Some(Box::new(stdout)), stderr: None, resize: Some(resize) };
    sizes.send(TerminalSize { width: 123, height: 45 }).await.unwrap();
    let connection = client::dial(&url).await.unwrap();
    let (code, out) = tokio::join!(client::remote_command(connection, &url, streams), all(out));
    assert_eq!((code.unwrap(), out.as_str()), (3, "45 123\r\n"));
    served.end().await;
}

pub async fn attach_gives_input_and_sees_output() {
    let mut served = Served::new().await;
    let request = RunPodSandboxRequest { config: Some(served.pod()), runtime_handler: String::new() };
    let pod = served.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "reader".into(), attempt: 0 }),
        image: Some(crate::served::image("busybox")),
        command: words(&["sh", "-c", "read line; echo got $line; read line; exit 4"]),
        log_path: "reader/0.log".into(),
        stdin: true,
        ..Default::default()
    };
    let request =
        CreateContainerRequest { pod_sandbox_id: pod, config: Some(config), sandbox_config: Some(served.pod()) };
    let id = served.runtime.create_container(request).await.unwrap().into_inner().container_id;
    served.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    let request =
        AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: true, ..Default::default() };
    let url: Uri = served.runtime.attach(request).await.unwrap().into_inner().url.parse().unwrap();
    let (mut to_stdin, stdin) = duplex(1024);
    let (stdout, mut out) = duplex(1024);
    let streams = Streams {
        stdin: Some(Box::new(stdin)),
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(tokio::io::sink())),
        resize: None,
    };
    let connection = client::dial(&url).await.unwrap();
    let talking = async {
        to_stdin.write_all(b"one\n").await.unwrap();
        let mut answer = [0; 8];
        out.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"got one\n");
        to_stdin.write_all(b"two\n").await.unwrap();
    };
    let (ended, ()) = tokio::join!(client::remote_command(connection, &url, streams), talking);
    assert_eq!(ended.unwrap(), 0, "attaching succeeds, however the container ends");
    assert_eq!(served.node.ended(&id).await.exit_code, 4);
    served.end().await;
}

async fn port_url(served: &mut Served, pod: &str, port: Vec<i32>) -> Uri {
    let request = PortForwardRequest { pod_sandbox_id: pod.to_owned(), port };
    served.runtime.port_forward(request).await.unwrap().into_inner().url.parse().unwrap()
}

pub async fn ports_are_forwarded() {
    let (mut served, pod, _) = sleeping().await;
    // Answers each connection with what it was sent.
    let script = "while :; do nc -l -p 80 -e cat; done";
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "echo".into(), attempt: 0 }),
        image: Some(crate::served::image("busybox")),
        command: words(&["sh", "-c", script]),
        log_path: "echo/0.log".into(),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(config),
        sandbox_config: Some(served.pod()),
    };
    let id = served.runtime.create_container(request).await.unwrap().into_inner().container_id;
    served.runtime.start_container(StartContainerRequest { container_id: id }).await.unwrap();

    // Until it listens, forwarding fails, and says so.
    loop {
        let url = port_url(&mut served, &pod, vec![]).await;
        let connection = client::dial(&url).await.unwrap();
        let (near, far) = duplex(1024);
        let talking = async {
            let (mut from, mut to) = tokio::io::split(near);
            // Of a connection that failed the other end is gone.
            let _ = to.write_all(b"there and back").await;
            let _ = to.shutdown().await;
            let mut text = String::new();
            let _ = from.read_to_string(&mut text).await;
            text
        };
        match tokio::join!(client::port_forward(connection, &url, 80, far), talking) {
            (Ok(()), text) => {
                assert_eq!(text, "there and back");
                break;
            }
            (Err(error), _) => assert!(error.to_string().contains("refused"), "{error}"),
        }
    }

    let url = port_url(&mut served, &pod, vec![81]).await;
    let mut socket = websocket(&url, "v4.channel.k8s.io").await;
    let mut channels = [Vec::new(), Vec::new()];
    while let Some(Ok(Message::Binary(data))) = socket.next().await {
        channels[usize::from(data[0])].extend_from_slice(&data[1..]);
    }
    assert_eq!(channels[0], [81, 0], "the data channel begins with the port");
    let error = String::from_utf8_lossy(&channels[1][2..]);
    assert!(error.contains("refused"), "{error}");
    served.end().await;
}

pub async fn a_url_is_good_for_one_connection() {
    let (mut served, _, id) = sleeping().await;
    let streams = || Streams {
        stdin: Some(Box::new(tokio::io::empty())),
        stdout: Some(Box::new(tokio::io::sink())),
        stderr: Some(Box::new(tokio::io::sink())),
        resize: None,
    };
    let url = exec_url(&mut served, &id, &["true"]).await;
    let ask = async |url: &Uri| client::remote_command(client::dial(url).await.unwrap(), url, streams()).await;
    assert_eq!(ask(&url).await.unwrap(), 0);
    let again = ask(&url).await.unwrap_err();
    assert!(matches!(again, client::Error::Refused { status: http::StatusCode::NOT_FOUND, .. }), "{again}");
    let url = exec_url(&mut served, &id, &["true"]).await;
    let other: Uri = url.to_string().replace("/exec/", "/attach/").parse().unwrap();
    assert!(ask(&other).await.is_err(), "a token is for what it was asked for");
    assert!(ask(&url.to_string().replace("/exec/", "/exec/0").parse().unwrap()).await.is_err());
    served.end().await;
}

pub async fn what_makes_no_sense_gets_no_url() {
    let (mut served, pod, id) = sleeping().await;
    let exec = ExecRequest { container_id: id.clone(), cmd: words(&["true"]), stdout: true, ..Default::default() };
    for (request, code) in [
        (ExecRequest { container_id: "absent".into(), ..exec.clone() }, Code::NotFound),
        (ExecRequest { stdout: false, ..exec.clone() }, Code::InvalidArgument),
        (ExecRequest { tty: true, stderr: true, ..exec.clone() }, Code::InvalidArgument),
        (ExecRequest { cmd: vec![], ..exec.clone() }, Code::InvalidArgument),
    ] {
        assert_eq!(served.runtime.exec(request.clone()).await.unwrap_err().code(), code, "{request:?}");
    }
    let request = PortForwardRequest { pod_sandbox_id: pod.clone(), port: vec![65536] };
    assert_eq!(served.runtime.port_forward(request).await.unwrap_err().code(), Code::InvalidArgument);
    served.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.clone() }).await.unwrap();
    let attach = AttachRequest { container_id: id, stdout: true, ..Default::default() };
    assert_eq!(served.runtime.attach(attach).await.unwrap_err().code(), Code::FailedPrecondition);
    let request = PortForwardRequest { pod_sandbox_id: pod, port: vec![80] };
    assert_eq!(served.runtime.port_forward(request).await.unwrap_err().code(), Code::FailedPrecondition);
    served.end().await;
}
