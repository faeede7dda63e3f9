//! TCP: a connection inside for each connection outside, and bytes between them.
//!
//! A relay has a few threads of its own ([`worker`]), each with an epoll that all connections it has accepted are in,
//! edge-triggered: nothing is told the kernel anew for each piece that is moved, and a connection that rests costs its
//! two sockets and no buffer. What is little is read and sent; what is much is spliced ([`flow`]).

mod connection;
mod flow;
mod pipe;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_nodelay};

use super::source::Device;
use worker::{Command, Mailbox, Worker};

/// More threads than this move no more bytes: the kernel's part of the work is done by whoever sends and receives.
const THREADS: usize = 4;

/// The threads that relay. They end with this.
pub(crate) struct TcpRelay {
    workers: Vec<(Arc<Mailbox>, Option<JoinHandle<()>>)>,
    last: AtomicU64,
}

/// A port that is relayed, until it is closed or dropped.
pub(crate) struct TcpPort {
    id: u64,
    workers: Vec<Arc<Mailbox>>,
}

/// What a worker knows of a port.
struct Listener {
    socket: OwnedFd,
    target: SocketAddr,
    device: Arc<Device>,
}

impl TcpRelay {
    /// As many threads as the machine has processors, up to [`THREADS`].
    ///
    /// # Errors
    /// The kernel gives no thread, or no descriptors.
    pub(crate) fn start() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let mut relay = Self { workers: Vec::with_capacity(threads), last: AtomicU64::new(0) };
        for _ in 0..threads {
            let mailbox = Arc::new(Mailbox::new()?);
            let worker = Worker::new(mailbox.clone())?;
            let thread = std::thread::Builder::new().name("k3s-relay".into()).stack_size(256 * 1024);
            relay.workers.push((mailbox, Some(thread.spawn(|| worker.run())?)));
        }
        Ok(relay)
    }

    /// Takes a port's connections from now on.
    ///
    /// # Errors
    /// The socket is none that can be waited for.
    pub(crate) fn serve(&self, socket: TcpListener, target: SocketAddr, device: Arc<Device>) -> io::Result<TcpPort> {
        socket.set_nonblocking(true)?;
        // Connections have these from their listener. What is small is not to wait for more, and a client that has gone
        // without a word is not to be waited for forever.
        set_tcp_nodelay(&socket, true)?;
        set_socket_keepalive(&socket, true)?;
        let listener = Arc::new(Listener { socket: socket.into(), target, device });
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let workers: Vec<_> = self.workers.iter().map(|(mailbox, _)| mailbox.clone()).collect();
        for worker in &workers {
            worker.post(Command::Serve { port: id, listener: listener.clone() });
        }
        Ok(TcpPort { id, workers })
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        for (mailbox, _) in &self.workers {
            mailbox.post(Command::Stop);
        }
        for (_, thread) in &mut self.workers {
            // A worker that has panicked has said so.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

impl TcpPort {
    /// Closes the port and all connections through it; both are gone on return.
    pub(crate) fn close(self) {
        let (closed, all_closed) = channel();
        self.post_close(Some(&closed));
        drop(closed);
        // It ends when each worker has dropped its end.
        while all_closed.recv().is_ok() {}
    }

    fn post_close(&self, closed: Option<&Sender<()>>) {
        for worker in &self.workers {
            worker.post(Command::Close { port: self.id, _closed: closed.cloned() });
        }
    }
}

impl Drop for TcpPort {
    fn drop(&mut self) {
        // After `close` there is nothing left of that number.
        self.post_close(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    struct Relayed {
        server: TcpListener,
        address: SocketAddr,
        port: TcpPort,
        _relay: TcpRelay,
    }

    fn relayed() -> Relayed {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, target) = (listener.local_addr().unwrap(), server.local_addr().unwrap());
        let relay = TcpRelay::start().unwrap();
        let device = Arc::new(Device::new("lo", [127, 0, 0, 1].into()));
        let port = relay.serve(listener, target, device).unwrap();
        Relayed { server, address, port, _relay: relay }
    }

    fn connect(to: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    #[test]
    fn every_byte_comes_through_in_both_directions_and_so_do_the_ends() {
        let relayed = relayed();
        let sent: Vec<u8> = (0..30_000_000_u32).map(|n| (n / 251) as u8 ^ n as u8).collect();
        let server = relayed.server.try_clone().unwrap();
        let echo = std::thread::spawn(move || {
            let mut stream = server.accept().unwrap().0;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let mut client = connect(relayed.address);
        client.write_all(&sent).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
        echo.join().unwrap();
    }

    #[test]
    fn a_short_question_with_an_end_has_its_answer_with_an_end() {
        let relayed = relayed();
        let server = relayed.server.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut question = String::new();
            let (mut stream, _) = server.accept().unwrap();
            stream.read_to_string(&mut question).unwrap();
            stream.write_all(question.to_uppercase().as_bytes()).unwrap();
        });
        let mut client = connect(relayed.address);
        client.write_all(b"who?").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(io::read_to_string(client).unwrap(), "WHO?");
    }

    #[test]
    fn a_server_may_speak_first() {
        let relayed = relayed();
        let client = connect(relayed.address);
        let (mut server, _) = relayed.server.accept().unwrap();
        server.write_all(b"220 ready").unwrap();
        (&client).read_exact(&mut [0; 9]).unwrap();
        (&client).write_all(b"HELO").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        drop(server);
        assert_eq!(io::read_to_string(client).unwrap(), "");
    }

    #[test]
    fn pieces_that_are_not_read_arrive_all_the_same_when_they_are() {
        let relayed = relayed();
        let client = connect(relayed.address);
        let (mut server, _) = relayed.server.accept().unwrap();
        // More than the buffers on the way take, in pieces that are little.
        let writing = std::thread::spawn(move || {
            for number in 0..16_000_u32 {
                server.write_all(&[number as u8; 1000]).unwrap();
            }
        });
        // Until nothing moves any more.
        std::thread::sleep(Duration::from_millis(200));
        let mut received = Vec::new();
        (&client).read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert_eq!(received.len(), 16_000_000);
        assert!(received.chunks(1000).enumerate().all(|(number, piece)| piece.iter().all(|b| *b == number as u8)));
    }

    #[test]
    fn what_follows_an_urgent_byte_is_not_left_behind() {
        use rustix::net::{SendFlags, send};
        let relayed = relayed();
        let client = connect(relayed.address);
        let (mut server, _) = relayed.server.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        send(&client, b"before", SendFlags::empty()).unwrap();
        send(&client, b"!", SendFlags::OOB).unwrap();
        send(&client, b"after", SendFlags::empty()).unwrap();
        // The urgent byte itself is out of band, and not passed on.
        let mut received = [0; 11];
        server.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"beforeafter");
    }

    #[test]
    fn many_connections_at_once_are_not_mixed_up() {
        let relayed = relayed();
        let server = relayed.server.try_clone().unwrap();
        std::thread::spawn(move || {
            for stream in server.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while let Ok(1) = (&stream).read(&mut byte) {
                        (&stream).write_all(&byte).unwrap();
                    }
                });
            }
        });
        let mut clients: Vec<_> = (0..50).map(|number| (number, connect(relayed.address))).collect();
        for round in 0..3 {
            for (number, client) in &mut clients {
                client.write_all(&[*number + round]).unwrap();
            }
            for (number, client) in &mut clients {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [*number + round]);
            }
        }
    }

    #[test]
    fn a_client_hears_at_once_that_nobody_answers() {
        let Relayed { server, address, port: _port, _relay } = relayed();
        drop(server);
        let mut client = connect(address);
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }

    #[test]
    fn a_reset_is_passed_on_as_one() {
        let relayed = relayed();
        let mut client = connect(relayed.address);
        let (mut server, _) = relayed.server.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        rustix::net::sockopt::set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn an_answer_arrives_though_the_server_has_not_read_the_question() {
        let relayed = relayed();
        let mut client = connect(relayed.address);
        let (mut server, _) = relayed.server.accept().unwrap();
        // More than all buffers on the way take.
        client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = client.write_all(&vec![0; 64 << 20]);
        server.write_all(b"too large").unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"too large");
    }

    #[test]
    fn connections_end_with_the_port() {
        let Relayed { server, address, port, _relay } = relayed();
        let mut client = connect(address);
        let (_held, _) = server.accept().unwrap();
        port.close();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        TcpStream::connect(address).expect_err("the port is still open");
    }
}
