//! Launches itself: `launch DATA_DIR`, as an ordinary user with sub-ids. Inside, it takes commands
//! from standard input, one a line, and answers each with lines of which the last is a dot:
//!
//! - `sh COMMAND`: the output and, if it fails, the status
//! - `info`: what the launcher says, as JSON
//! - `tcp ADDRESS`, `udp ADDRESS`: opens a port of the host
//! - `accept`, `receive`: serves one connection or datagram of the last port, and says from whom
//! - `connect ADDRESS`: connects from inside and says what is received
//! - `close`: closes all ports
//! - `exit STATUS`

use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use k3s_rootless::{Config, Host};

fn main() -> Result<(), Box<dyn Error>> {
    k3s_rootless::enter()?;
    if let Some(host) = Host::from_env() {
        return serve(&host);
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

fn serve(host: &Host) -> Result<(), Box<dyn Error>> {
    let mut ports = Ports::default();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = answer(host, &mut ports, command, argument).unwrap_or_else(|e| format!("error: {e}"));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}\n.", answer.trim_end())?;
        out.flush()?;
    }
    Ok(())
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
        "close" => {
            *ports = Ports::default();
            Ok("closed".to_owned())
        }
        "exit" => std::process::exit(argument.parse()?),
        _ => Err(format!("unknown command {command:?}").into()),
    }
}
