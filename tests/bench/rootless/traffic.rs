//! Clients on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a client asks for with its first byte.
pub const SINK: u8 = b'S';
pub const HANG_UP: u8 = b'C';

/// Gbit/s that a server takes from a client at this port of the host.
pub fn throughput(port: u16, time: Duration) -> f64 {
    send(SocketAddr::from(([127, 0, 0, 1], port)), time).expect("a server that takes")
}

/// Sends for this long, and counts what has arrived.
pub fn send(to: SocketAddr, time: Duration) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let buffer = vec![SINK; 128 * 1024];
    let begin = Instant::now();
    while begin.elapsed() < time {
        stream.write_all(&buffer)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut arrived = [0; 8];
    stream.read_exact(&mut arrived)?;
    Ok(u64::from_le_bytes(arrived) as f64 * 8.0 / 1e9 / begin.elapsed().as_secs_f64())
}

/// Connections a second, each with a byte there and one back, from two clients at once.
pub fn connections(port: u16, time: Duration) -> f64 {
    let begin = Instant::now();
    let client = move || {
        let mut done = 0;
        while begin.elapsed() < time {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
            stream.write_all(&[HANG_UP]).expect("a server that reads");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer");
            assert_eq!(answer, [HANG_UP]);
            done += 1;
        }
        done
    };
    let clients = [std::thread::spawn(client), std::thread::spawn(client)];
    let done: u32 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    f64::from(done) / begin.elapsed().as_secs_f64()
}
