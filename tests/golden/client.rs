//! A client that sends a request to the letter.
//!
//! Recorded requests hold what a library's types refuse (`?labelSelector=i>0`), and leave out what it adds (the user
//! agent becomes the name of the field manager).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long a server may keep silent.
pub const SILENCE: Duration = Duration::from_secs(20);

pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: String,
}

/// A request, a connection to itself.
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, sent as they are.
    pub path: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: Option<Vec<u8>>,
    /// Bearer token, instead of the client's.
    pub token: Option<&'a str>,
    /// How long the server may keep silent.
    pub silence: Duration,
}

impl<'a> Request<'a> {
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: Vec::new(), body: None, token: None, silence: SILENCE }
    }
}

pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// All values of a header.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A client of the server at `address` with a certificate by `authority` (PEM), as the user of `token`.
    pub fn new(address: SocketAddr, authority: &[u8], token: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            roots.add(certificate.context("cannot read the cluster's certificate authority")?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { address, tls: Arc::new(tls), token: token.to_owned() })
    }

    pub fn send(&self, request: &Request<'_>) -> Result<Answer> {
        let stream = TcpStream::connect(self.address).context("cannot connect")?;
        stream.set_read_timeout(Some(request.silence))?;
        stream.set_write_timeout(Some(request.silence))?;
        stream.set_nodelay(true)?;
        let session = ClientConnection::new(self.tls.clone(), ServerName::from(self.address.ip()))?;
        let mut stream = StreamOwned::new(session, stream);
        let mut message = self.head(request).into_bytes();
        message.extend(request.body.iter().flatten());
        stream.write_all(&message).context("cannot send the request")?;
        stream.flush()?;
        receive(&mut stream, request.method)
    }

    fn head(&self, request: &Request<'_>) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: identity\r\n",
            request.method, request.path, self.address
        );
        let mut header = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        match &request.body {
            Some(body) => header("Content-Length", &body.len().to_string()),
            None if matches!(request.method, "POST" | "PUT" | "PATCH") => header("Content-Length", "0"),
            None => (),
        }
        request.headers.iter().for_each(|(name, value)| header(name, value));
        let given = |wanted: &str| request.headers.iter().any(|(name, _)| *name == wanted);
        if !given("Authorization") {
            header("Authorization", &format!("Bearer {}", request.token.unwrap_or(&self.token)));
        }
        if request.body.is_some() && !given("Content-Type") {
            header("Content-Type", "application/json");
        }
        head.push_str("\r\n");
        head
    }
}

/// Reads the answer to a request with `method`.
fn receive(stream: &mut impl Read, method: &str) -> Result<Answer> {
    let mut received = Vec::new();
    let mut answer = loop {
        if !more(stream, &mut received)? {
            bail!("the connection ended in the head of the answer");
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(length) = head.parse(&received)? {
            let headers = head.headers.iter().map(|header| {
                (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned())
            });
            let answer = Answer {
                status: head.code.context("an answer without a status")?,
                headers: headers.collect(),
                body: Vec::new(),
            };
            received.drain(..length);
            break answer;
        }
    };
    let chunked = answer.all("transfer-encoding").any(|value| value.eq_ignore_ascii_case("chunked"));
    let length = answer.all("content-length").next().map(str::parse::<usize>).transpose()?;
    // The answer to HEAD says how long the body would be.
    answer.body = if method == "HEAD" || matches!(answer.status, 204 | 304) {
        Vec::new()
    } else if chunked {
        chunks(stream, received)?
    } else if let Some(length) = length {
        while received.len() < length {
            if !more(stream, &mut received)? {
                bail!("the connection ended after {} of {length} bytes", received.len());
            }
        }
        received.truncate(length);
        received
    } else {
        while more(stream, &mut received)? {}
        received
    };
    Ok(answer)
}

fn chunks(stream: &mut impl Read, mut received: Vec<u8>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let parsed = httparse::parse_chunk_size(&received).map_err(|_| anyhow::anyhow!("a chunk without a size"))?;
        if let httparse::Status::Complete((start, size)) = parsed {
            let end = start + usize::try_from(size)?;
            if size == 0 {
                return Ok(body);
            }
            // Each chunk ends with a line break of its own.
            if received.len() >= end + 2 {
                body.extend_from_slice(&received[start..end]);
                received.drain(..end + 2);
                continue;
            }
        }
        if !more(stream, &mut received)? {
            bail!("the connection ended in a chunk");
        }
    }
}

/// Reads what has come. Returns whether the connection is still open.
fn more(stream: &mut impl Read, received: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 64 << 10];
    let count = stream.read(&mut buffer).context("cannot receive the answer")?;
    received.extend_from_slice(&buffer[..count]);
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time.
    struct Trickle(&'static [u8]);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn body(answer: &'static str) -> Result<String> {
        Ok(String::from_utf8(receive(&mut Trickle(answer.as_bytes()), "GET")?.body)?)
    }

    #[test]
    fn bodies_end_by_length_chunks_or_connection() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap(), "ok");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n, k\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "ok, k");
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nok").unwrap(), "ok");
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        let mut open = Trickle(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(receive(&mut open, "HEAD").unwrap().status, 405);
    }

    #[test]
    fn a_connection_that_ends_early_is_an_error() {
        body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok").unwrap_err();
        body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no").unwrap_err();
        body("HTTP/1.1 200").unwrap_err();
    }
}
