//! TCP: a connection inside for each connection outside, and bytes between them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::source;

/// The first bytes of a connection are copied, and most connections have no more. Only a longer one gets a pipe.
const FIRST: usize = 16 * 1024;
/// What one call may move. A pipe of the usual 16 slots holds as many pieces of up to 64 KiB.
const AT_ONCE: usize = 1 << 20;

/// Until the listener's task is aborted; connections end with it.
pub(crate) async fn run(listener: TcpListener, target: SocketAddr, device: Ipv4Addr) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((client, address)) => {
                connections.spawn(async move {
                    if let Err(error) = relay(client, address, target, device).await {
                        tracing::debug!(%target, client = %address, %error, "a relayed connection failed");
                    }
                });
            }
            // Out of descriptors, mostly.
            Err(error) => {
                tracing::warn!(%target, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn relay(mut client: TcpStream, from: SocketAddr, target: SocketAddr, device: Ipv4Addr) -> io::Result<()> {
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let mut server = connect(from, target, device).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut client_reads, mut client_writes) = client.split();
    let (mut server_reads, mut server_writes) = server.split();
    tokio::try_join!(carry(&mut client_reads, &mut server_writes), carry(&mut server_reads, &mut client_writes))?;
    Ok(())
}

async fn connect(client: SocketAddr, target: SocketAddr, device: Ipv4Addr) -> io::Result<TcpStream> {
    let new = || if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = new()?;
    match source::assume(&socket, client, target, device) {
        Ok(_) => socket.connect(target).await,
        Err(error) => {
            tracing::debug!(%client, %target, %error, "cannot keep a client's address");
            new()?.connect(target).await
        }
    }
}

/// Until the sender has no more to say, which the receiver is told.
async fn carry(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<()> {
    let mut first = vec![0; FIRST];
    loop {
        let length = from.read(&mut first).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&first[..length]).await?;
        if length == FIRST {
            break;
        }
    }
    drop(first);
    match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
        Ok(pipe) => carry_by_splice(from, to, &pipe).await?,
        // Out of descriptors.
        Err(_) => drop(tokio::io::copy(from, to).await?),
    }
    to.shutdown().await
}

async fn carry_by_splice(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    (out, into): &(OwnedFd, OwnedFd),
) -> io::Result<()> {
    let (source, sink): (&TcpStream, &TcpStream) = (from.as_ref(), to.as_ref());
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let taken = source.async_io(Interest::READABLE, || Ok(splice(source, None, into, None, AT_ONCE, flags)?));
        let mut left = taken.await?;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            let given = sink.async_io(Interest::WRITABLE, || Ok(splice(out, None, sink, None, left, flags)?));
            match given.await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                given => left -= given,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinHandle;

    async fn relayed() -> (TcpListener, SocketAddr, JoinHandle<()>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, target) = (listener.local_addr().unwrap(), server.local_addr().unwrap());
        (server, address, tokio::spawn(run(listener, target, Ipv4Addr::LOCALHOST)))
    }

    #[tokio::test]
    async fn every_byte_comes_through_in_both_directions_and_so_do_the_ends() {
        let (server, address, task) = relayed().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 251) as u8 ^ n as u8).collect();
        let echo = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
        echo.await.unwrap();
        task.abort();
    }

    #[tokio::test]
    async fn a_client_hears_at_once_that_nobody_answers() {
        let (server, address, _task) = relayed().await;
        drop(server);
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        assert!(matches!(client.read(&mut byte).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn connections_end_with_the_relay() {
        let (server, address, task) = relayed().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let (_held, _) = server.accept().await.unwrap();
        task.abort();
        let mut byte = [0];
        assert!(matches!(client.read(&mut byte).await, Ok(0) | Err(_)));
        TcpStream::connect(address).await.expect_err("the port is still open");
    }
}
