//! The API of `--api-socket`: one JSON request a connection, ended by shutting the sending side down; one JSON answer.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// slirp4netns answers within microseconds, and stands still while it does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Transport of a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
}

/// A port of the host that leads to one inside. IPv4 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    pub proto: Proto,
    pub host_addr: Ipv4Addr,
    pub host_port: u16,
    /// An address in the program's CIDR that answers ARP there: the device's own.
    pub guest_addr: Ipv4Addr,
    pub guest_port: u16,
}

/// A forward's number, by which it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ForwardId(pub i64);

/// A forward that is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Forwarded {
    pub id: ForwardId,
    #[serde(flatten)]
    pub forward: Forward,
}

/// The API could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("cannot ask slirp4netns at {path:?}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("slirp4netns at {path:?} answers {answer:?}, which is not its API")]
    Answer { path: PathBuf, answer: String },
    /// Its own words; it does not say more of a port that is taken.
    #[error("slirp4netns refuses: {description}")]
    Refused { description: String },
}

#[derive(Serialize)]
#[serde(tag = "execute", content = "arguments")]
enum Request {
    #[serde(rename = "add_hostfwd")]
    Add(Forward),
    #[serde(rename = "list_hostfwd")]
    List,
    #[serde(rename = "remove_hostfwd")]
    Remove { id: ForwardId },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer<T> {
    Return(T),
    Error { desc: String },
}

#[derive(Deserialize)]
struct Added {
    id: ForwardId,
}

#[derive(Deserialize)]
struct List {
    entries: Vec<Forwarded>,
}

#[derive(Deserialize)]
struct Nothing {}

/// Speaks with a running slirp4netns. Blocks for as long as that takes.
#[derive(Debug, Clone)]
pub struct ApiClient {
    socket: PathBuf,
}

impl ApiClient {
    /// For the socket at this path, which need not be there yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `add_hostfwd`.
    ///
    /// # Errors
    /// The port is taken or not permitted, or nobody answers.
    pub fn add(&self, forward: &Forward) -> Result<ForwardId, ApiError> {
        self.call::<Added>(&Request::Add(*forward)).map(|added| added.id)
    }

    /// `list_hostfwd`.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn list(&self) -> Result<Vec<Forwarded>, ApiError> {
        self.call::<List>(&Request::List).map(|list| list.entries)
    }

    /// `remove_hostfwd`.
    ///
    /// # Errors
    /// There is none of that number, or nobody answers.
    pub fn remove(&self, id: ForwardId) -> Result<(), ApiError> {
        self.call::<Nothing>(&Request::Remove { id }).map(drop)
    }

    fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ApiError> {
        let exchange = || -> io::Result<Vec<u8>> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(&serde_json::to_vec(request)?)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(|source| ApiError::Io { path: self.socket.clone(), source })?;
        match serde_json::from_slice(&answer) {
            Ok(Answer::Return(value)) => Ok(value),
            Ok(Answer::Error { desc }) => Err(ApiError::Refused { description: desc }),
            Err(_) => Err(ApiError::Answer {
                path: self.socket.clone(),
                answer: String::from_utf8_lossy(&answer).into_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARD: Forward = Forward {
        proto: Proto::Tcp,
        host_addr: Ipv4Addr::UNSPECIFIED,
        host_port: 8080,
        guest_addr: Ipv4Addr::new(10, 0, 2, 100),
        guest_port: 80,
    };

    #[test]
    fn requests_are_as_the_manual_has_them() {
        let json = |request| serde_json::to_string(&request).unwrap();
        assert_eq!(
            json(Request::Add(FORWARD)),
            r#"{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"0.0.0.0","host_port":8080,"guest_addr":"10.0.2.100","guest_port":80}}"#
        );
        assert_eq!(json(Request::List), r#"{"execute":"list_hostfwd"}"#);
        let remove = json(Request::Remove { id: ForwardId(42) });
        assert_eq!(remove, r#"{"execute":"remove_hostfwd","arguments":{"id":42}}"#);
    }

    #[test]
    fn answers_are_as_the_manual_has_them() {
        let list = r#"{"return": {"entries": [{"id": 42, "proto": "tcp", "host_addr": "0.0.0.0", "host_port": 8080, "guest_addr": "10.0.2.100", "guest_port": 80}]}}"#;
        let Answer::Return(List { entries }) = serde_json::from_str(list).unwrap() else { panic!("an error") };
        assert_eq!(entries, [Forwarded { id: ForwardId(42), forward: FORWARD }]);
        assert!(matches!(serde_json::from_str(r#"{"return": {}}"#).unwrap(), Answer::Return(Nothing {})));
        let refused = r#"{"error": {"desc": "bad request: add_hostfwd: bad arguments.proto"}}"#;
        let Answer::<Added>::Error { desc } = serde_json::from_str(refused).unwrap() else { panic!("no error") };
        assert!(desc.contains("bad arguments.proto"));
    }

    #[test]
    fn nobody_there_names_the_socket() {
        let error = ApiClient::new("/nonexistent/api.sock".into()).list().unwrap_err().to_string();
        assert!(error.contains("/nonexistent/api.sock"), "{error}");
    }
}
