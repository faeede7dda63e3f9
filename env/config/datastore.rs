//! Where the server keeps its objects.

use std::path::PathBuf;

use crate::{Error, Values};

/// The datastore and how to speak TLS with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Datastore {
    /// A URL, as kine takes it; nothing: SQLite in the data directory.
    pub endpoint: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl Datastore {
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        let file = |name: &str| values.string(name).map(PathBuf::from);
        let datastore = Self {
            endpoint: values.string("datastore-endpoint"),
            ca_file: file("datastore-cafile"),
            cert_file: file("datastore-certfile"),
            key_file: file("datastore-keyfile"),
        };
        match (&datastore.cert_file, &datastore.key_file) {
            (Some(_), None) => Err(values.bad("datastore-certfile", "it needs --datastore-keyfile as well")),
            (None, Some(_)) => Err(values.bad("datastore-keyfile", "it needs --datastore-certfile as well")),
            _ => Ok(datastore),
        }
    }
}
