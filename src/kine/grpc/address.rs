//! Where to listen, as kine's `--listen-address` says it.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

/// A place to listen at: `0.0.0.0:2379`, `:2379`, `tcp://127.0.0.1:2379`, `http://…`, `https://…`, `unix:///run/kine.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Text that is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen at {0:?}: give an address and port (127.0.0.1:2379) or a socket (unix:///run/kine.sock)")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || AddressError(text.to_owned());
        let tcp = match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => return Ok(Address::Unix(path.into())),
            Some(("tcp" | "http" | "https", rest)) => rest.trim_end_matches('/'),
            Some(_) => return Err(refused()),
            None => text,
        };
        let tcp = match tcp.split_once(':') {
            // Go's way to say: on all addresses.
            Some(("", port)) => format!("[::]:{port}"),
            Some(("localhost", port)) => format!("127.0.0.1:{port}"),
            _ => tcp.to_owned(),
        };
        tcp.parse().map(Address::Tcp).map_err(|_| refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_kine_reads_it() {
        let tcp = |address: &str| Ok(Address::Tcp(address.parse().unwrap()));
        for (text, expected) in [
            ("0.0.0.0:2379", tcp("0.0.0.0:2379")),
            (":2379", tcp("[::]:2379")),
            ("tcp://127.0.0.1:2379", tcp("127.0.0.1:2379")),
            ("https://[::1]:2379/", tcp("[::1]:2379")),
            ("http://localhost:0", tcp("127.0.0.1:0")),
            ("unix:///run/kine.sock", Ok(Address::Unix("/run/kine.sock".into()))),
            ("unix://kine.sock", Ok(Address::Unix("kine.sock".into()))),
            ("2379", Err(AddressError("2379".into()))),
            ("unix://", Err(AddressError("unix://".into()))),
            ("ftp://127.0.0.1:1", Err(AddressError("ftp://127.0.0.1:1".into()))),
        ] {
            assert_eq!(text.parse::<Address>(), expected, "{text}");
        }
    }
}
