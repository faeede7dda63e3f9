//! What runs inside: takes commands by standard input, a line each, and answers with a line.

use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use k3s_rootless::{Host, Protocol, PublishedPorts};
use nix::time::{ClockId, clock_gettime};

use crate::traffic::{SINK, send};

/// Nanoseconds since the machine has started: the same clock in all processes and namespaces.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Says when it began, and then does what it is told.
pub fn run(host: Option<Host>) {
    println!("{}", now());
    let mut kept = Vec::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let ports = host.clone().map(PublishedPorts::new);
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a command");
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match (words.as_slice(), &host, &ports) {
            (["serve", address], ..) => {
                kept.push(serve(TcpListener::bind(address).expect("an address")));
                "serving".to_owned()
            }
            (["direct", address], Some(host), _) => {
                kept.push(serve(host.listen_tcp(address.parse().expect("an address")).expect("a port")));
                "serving".to_owned()
            }
            (["publish", listen, target], _, Some(ports)) => {
                let (listen, target) = (listen.parse().expect("an address"), target.parse().expect("an address"));
                let port = runtime.block_on(ports.publish(Protocol::Tcp, listen, target)).expect("a port");
                port.listen.to_string()
            }
            (["send", address, millis], ..) => {
                let time = Duration::from_millis(millis.parse().expect("a number"));
                send(address.parse().expect("an address"), time).map_or_else(|e| e.to_string(), |rate| rate.to_string())
            }
            _ => format!("not here: {line}"),
        };
        println!("{answer}");
    }
}

/// Serves in threads until the process ends.
pub fn serve(listener: TcpListener) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream: TcpStream = stream;
            let mut first = [0];
            if stream.read_exact(&mut first).is_err() {
                continue;
            }
            if first[0] != SINK {
                // The client may be gone.
                let _ = stream.write_all(&first);
                continue;
            }
            std::thread::spawn(move || sink(stream));
        }
    })
}

fn sink(mut stream: TcpStream) {
    let (mut buffer, mut arrived) = (vec![0; 256 * 1024], 1_u64);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        arrived += length as u64;
    }
    let _ = stream.write_all(&arrived.to_le_bytes());
}
