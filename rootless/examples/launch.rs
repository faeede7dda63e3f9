//! Launches itself: `launch DATA_DIR`, as an ordinary user with sub-ids. Inside, it takes commands
//! from standard input, one a line, and answers each with lines of which the last is a dot:
//!
//! - `sh COMMAND`: the output and, if it fails, the status
//! - `info`: what the launcher says, as JSON
//! - `tcp ADDRESS`, `udp ADDRESS`: opens a port of the host
//! - `accept`, `receive`: serves one connection or datagram of the last port, and says from whom
//! - `connect ADDRESS`: connects from inside and says what is received
//! - `close`: closes all ports
//! - `who ADDRESS`: from now on answers there, by TCP and UDP, with the client's address
//! - `publish PROTOCOL LISTEN TARGET`, `withdraw ID`: leads a port of the host to an address inside, and no longer
//! - `keep`: from now on in the client's name; the test has set up the way back
//! - `exit STATUS`
//!
//! `launch who ADDRESS` only answers there, to be run in a pod's network. rootlesskit's API is served all the while.

use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use k3s_rootless::{Config, Host, Protocol, PublishedPorts};

fn main() -> Result<(), Box<dyn Error>> {
    k3s_rootless::enter()?;
    if let Some(host) = Host::from_env() {
        return serve(&host);
    }
    if let [_, command, address] = std::env::args().collect::<Vec<_>>().as_slice()
        && command == "who"
    {
        say_who(address.parse()?)?;
        println!("ready");
        loop {
            std::thread::park();
        }
    }
    let data_dir = std::env::args_os().nth(1).ok_or("usage: launch DATA_DIR")?;
    let config = Config::from_env(std::env::vars(), data_dir.as_ref(), false)?;
    match k3s_rootless::launch(&config, std::env::args_os()) {
        Ok(exit) => std::process::exit(exit.code()),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    }
}

#[derive(Default)]
struct Ports {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

/// Answers whoever asks with the address they ask from.
fn say_who(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (listener, socket) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may be gone.
            let _ = stream.peer_addr().and_then(|peer| write!(&stream, "{peer}"));
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(peer.to_string().as_bytes(), peer);
        }
    });
    Ok(())
}

fn serve(host: &Host) -> Result<(), Box<dyn Error>> {
    let mut ports = Ports::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _in_runtime = runtime.enter();
    let published = PublishedPorts::new(host.clone());
    runtime.spawn(k3s_rootless::serve_api(published.clone())?);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match command {
            "publish" | "withdraw" => runtime.block_on(publish(&published, argument)),
            "keep" => {
                published.keep_client_addresses();
                Ok("kept".to_owned())
            }
            _ => answer(host, &mut ports, command, argument),
        };
        let answer = answer.unwrap_or_else(|e| format!("error: {e}"));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}\n.", answer.trim_end())?;
        out.flush()?;
    }
    Ok(())
}

async fn publish(published: &PublishedPorts, argument: &str) -> Result<String, Box<dyn Error>> {
    let words: Vec<&str> = argument.split(' ').collect();
    match words.as_slice() {
        [protocol, listen, target] => {
            let protocol = if *protocol == "tcp" { Protocol::Tcp } else { Protocol::Udp };
            let port = published.publish(protocol, listen.parse()?, target.parse()?).await?;
            Ok(format!("{} {}", port.id, port.listen))
        }
        [id] => published.withdraw(id.parse()?).await.map(|()| "withdrawn".to_owned()).map_err(Into::into),
        _ => Err("publish PROTOCOL LISTEN TARGET".into()),
    }
}

fn answer(host: &Host, ports: &mut Ports, command: &str, argument: &str) -> Result<String, Box<dyn Error>> {
    match command {
        "sh" => {
            let output = Command::new("/bin/sh").args(["-c", argument]).output()?;
            let mut text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if !output.status.success() {
                text.push_str(&output.status.to_string());
            }
            Ok(text)
        }
        "info" => Ok(serde_json::to_string(host.info())?),
        "tcp" => {
            ports.tcp.push(host.listen_tcp(argument.parse()?)?);
            Ok("listening".to_owned())
        }
        "udp" => {
            ports.udp.push(host.bind_udp(argument.parse()?)?);
            Ok("bound".to_owned())
        }
        "accept" => {
            let listener = ports.tcp.last().ok_or("no TCP port")?;
            let (mut stream, peer) = listener.accept()?;
            stream.write_all(b"from inside")?;
            Ok(peer.to_string())
        }
        "receive" => {
            let socket = ports.udp.last().ok_or("no UDP port")?;
            let mut datagram = [0; 64];
            let (length, peer) = socket.recv_from(&mut datagram)?;
            socket.send_to(&datagram[..length], peer)?;
            Ok(peer.to_string())
        }
        "connect" => {
            let address: SocketAddr = argument.parse()?;
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        }
        "who" => say_who(argument.parse()?).map(|()| "here".to_owned()),
        "close" => {
            *ports = Ports::default();
            Ok("closed".to_owned())
        }
        "exit" => std::process::exit(argument.parse()?),
        _ => Err(format!("unknown command {command:?}").into()),
    }
}
