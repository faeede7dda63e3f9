//! Probing by opening a TCP connection.

use std::time::Duration;

use tokio::net::TcpStream;

use super::Outcome;

pub(super) async fn probe(host: &str, port: u16, timeout: Duration) -> Outcome {
    let authority = super::http::authority(host, port);
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::of_io(&error, format!("dial tcp {authority}: connect: {}", go_text(&error))),
        Err(_) => Outcome::Failure(format!("dial tcp {authority}: i/o timeout")),
    }
}

/// The words for an error that Kubernetes' users know.
pub(super) fn go_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listening_port_succeeds_and_a_closed_one_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe("127.0.0.1", port, Duration::from_secs(1)).await, Outcome::Success);
        drop(listener);
        let refused = probe("127.0.0.1", port, Duration::from_secs(1)).await;
        let expected = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(refused, Outcome::Refused(expected));
    }
}
