//! Commands in containers, attach, port-forward.

use std::time::{Duration, Instant};

use k3s_cri::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::node::{Node, busybox, log, shell, until};

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

pub async fn commands_run_with_output_and_exit_codes() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let config = ContainerConfig {
        env: vec![("A".into(), "b".into())],
        security: SecurityContext { run_as_user: Some(101), ..SecurityContext::default() },
        ..busybox(&["sleep", "1000"])
    };
    let id = node.run(&sandbox, config).await;
    let run = async |command: &[&str]| node.runtime.exec_sync(&id, words(command), Duration::from_secs(5)).await;
    let output = run(&["sh", "-c", "id; echo $A $HOME; pwd; echo oops >&2; exit 5"]).await.unwrap();
    let text = "uid=101(web) gid=102(web) groups=102(web),103(extra)\nb /home/web\n/made/by/the/runtime\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    assert_eq!((output.stderr.as_slice(), output.exit_code), (b"oops\n".as_slice(), 5));
    match run(&["foo"]).await {
        Err(Error::Start { detail }) => assert_eq!(detail, "exec: \"foo\": executable file not found in $PATH"),
        other => panic!("{other:?}"),
    }
    let big = run(&["dd", "if=/dev/zero", "bs=1000", "count=3000"]).await.unwrap();
    assert_eq!(big.stdout.len(), 3_000_000);
    // Something that stays behind with the streams open does not keep the caller.
    let began = Instant::now();
    assert_eq!(run(&["sh", "-c", "sleep 100 & echo started"]).await.unwrap().stdout, b"started\n");
    assert!(began.elapsed() < Duration::from_secs(3));
    // Its pid namespace is the container's.
    let output = run(&["sh", "-c", "readlink /proc/self/ns/pid; readlink /proc/1/ns/pid"]).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let links: Vec<_> = text.lines().collect();
    assert_eq!(links.len(), 2);
    assert_eq!(links[0], links[1]);
    node.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    assert!(matches!(run(&["true"]).await, Err(Error::FailedPrecondition { .. })));
    node.end().await;
}

pub async fn a_command_that_takes_too_long_is_killed() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, busybox(&["sleep", "1000"])).await;
    let slow = node.runtime.exec_sync(&id, words(&["sh", "-c", "sleep 4321; true"]), Duration::from_millis(200)).await;
    assert!(matches!(slow, Err(Error::Timeout { .. })), "{slow:?}");
    for _ in 0..100 {
        let output = node.runtime.exec_sync(&id, words(&["ps"]), Duration::from_secs(5)).await.unwrap();
        if !String::from_utf8_lossy(&output.stdout).contains("4321") {
            return node.end().await;
        }
    }
    panic!("the command still runs");
}

/// Reads until the text is there.
async fn read_until(stream: &mut DuplexStream, wanted: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 256];
    while !seen.contains(wanted) {
        let count = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
        let count = count.unwrap_or_else(|_| panic!("{wanted:?} did not come, only {seen:?}")).unwrap();
        assert!(count > 0, "ended without {wanted:?}: {seen:?}");
        seen += &String::from_utf8_lossy(&buffer[..count]);
    }
    seen
}

pub async fn streams_and_terminals_are_connected() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, busybox(&["sleep", "1000"])).await;
    let request = |command: &[&str], tty| ExecRequest { container_id: id.clone(), command: words(command), tty };

    let (mut to_stdin, stdin) = duplex(1024);
    let (stdout, mut from_stdout) = duplex(1024);
    let streams = Streams { stdin: Some(Box::new(stdin)), stdout: Some(Box::new(stdout)), ..Streams::default() };
    let runtime = node.runtime.clone();
    let cat = request(&["cat"], false);
    let command = tokio::spawn(async move { runtime.exec(cat, streams).await });
    to_stdin.write_all(b"through\n").await.unwrap();
    read_until(&mut from_stdout, "through\n").await;
    drop(to_stdin);
    assert_eq!(command.await.unwrap().unwrap(), 0);

    let (mut to_stdin, stdin) = duplex(1024);
    let (stdout, mut from_stdout) = duplex(1024);
    let (sizes, resize) = tokio::sync::mpsc::channel(1);
    let streams = Streams {
        stdin: Some(Box::new(stdin)),
        stdout: Some(Box::new(stdout)),
        resize: Some(resize),
        ..Streams::default()
    };
    let runtime = node.runtime.clone();
    let sh = request(&["sh"], true);
    let command = tokio::spawn(async move { runtime.exec(sh, streams).await });
    sizes.send(TerminalSize { width: 123, height: 45 }).await.unwrap();
    // The size is set by another part of the same future; ask until it is there.
    to_stdin.write_all(b"tty; until stty size | grep '45 123'; do :; done\n").await.unwrap();
    let seen = read_until(&mut from_stdout, "45 123\r\n").await;
    assert!(seen.contains("/dev/pts/0"), "{seen}");
    // ^C reaches the foreground process of the terminal.
    to_stdin.write_all(b"sleep 1000\n").await.unwrap();
    read_until(&mut from_stdout, "sleep 1000\r\n").await;
    let sleeping = || async {
        let output = node.runtime.exec_sync(&id, words(&["ps"]), Duration::from_secs(5)).await.unwrap();
        String::from_utf8_lossy(&output.stdout).matches("sleep 1000").count() == 2
    };
    while !sleeping().await {}
    to_stdin.write_all(b"\x03").await.unwrap();
    to_stdin.write_all(b"exit 9\n").await.unwrap();
    tokio::spawn(async move { while from_stdout.read(&mut [0; 256]).await.is_ok_and(|count| count > 0) {} });
    assert_eq!(command.await.unwrap().unwrap(), 9);
    node.end().await;
}

pub async fn attach_sees_output_and_gives_input() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    for tty in [false, true] {
        let script = "while read line; do echo got $line; [ $line = end ] && exit 4; done; exit 5";
        let config = ContainerConfig {
            stdin: true,
            tty,
            name: format!("tty-{tty}"),
            log_path: format!("{tty}.log").into(),
            ..shell(script)
        };
        let id = node.run(&sandbox, config).await;
        let (mut to_stdin, stdin) = duplex(1024);
        let (stdout, mut from_stdout) = duplex(1024);
        let streams = Streams { stdin: Some(Box::new(stdin)), stdout: Some(Box::new(stdout)), ..Streams::default() };
        let runtime = node.runtime.clone();
        let attached = tokio::spawn({
            let id = id.clone();
            async move { runtime.attach(&id, streams).await }
        });
        to_stdin.write_all(b"one\n").await.unwrap();
        read_until(&mut from_stdout, "got one").await;
        to_stdin.write_all(b"end\n").await.unwrap();
        read_until(&mut from_stdout, "got end").await;
        attached.await.unwrap().unwrap();
        let status = node.ended(&id).await;
        assert_eq!(status.exit_code, 4);
        assert!(log(&status.log_path).iter().any(|line| line.starts_with("stdout F got end")));
    }
    node.end().await;
}

pub async fn port_forward_reaches_the_pods_loopback() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, busybox(&["nc", "-l", "-p", "80", "-e", "/bin/echo", "hello from the pod"])).await;
    let mut connection = None;
    for _ in 0..500 {
        match node.runtime.port_forward(&sandbox, 80).await {
            Ok(connected) => {
                connection = Some(connected);
                break;
            }
            // It does not listen yet.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    let mut text = String::new();
    connection.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello from the pod\n");
    assert!(node.runtime.port_forward(&sandbox, 81).await.is_err());
    let path = node.status(&id).await.log_path;
    until("the log", || path.exists()).await;
    node.end().await;
}
