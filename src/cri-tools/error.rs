//! What goes wrong, as a person reads it.

use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line makes no sense, or asks for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// It makes no sense in a way that the parser does not see.
    #[error("{0}")]
    Usage(String),
    /// No cluster runs here.
    #[error(
        "no k3s runs here: nothing answers at {}; start k3s server, or name a runtime's socket with --runtime-endpoint",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NoCluster { tried: Vec<PathBuf> },
    /// The socket that was named can't be used.
    #[error("connect to the runtime at {endpoint}: {detail}")]
    Connect { endpoint: String, detail: String },
    /// The runtime refused. Printed as Go's clients do, so that messages can be searched for.
    #[error("{doing}: rpc error: code = {:?} desc = {}", status.code(), status.message())]
    Call { doing: String, status: Box<tonic::Status> },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// A file can't be read, or makes no sense.
    #[error("{path}: {detail}", path = path.display())]
    File { path: PathBuf, detail: String },
    /// Streams of a command or a port.
    #[error("{0}")]
    Stream(#[from] k3s_streaming::client::Error),
    /// Our runtime's socket for tools.
    #[error("{doing}: {detail}")]
    Local { doing: String, detail: String },
    /// Standard output can't be written to.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// Several things failed; each has been told already.
    #[error("{0}")]
    Several(String),
}

impl Error {
    /// For `map_err` of calls.
    pub fn call(doing: impl Into<String>) -> impl FnOnce(tonic::Status) -> Self {
        let doing = doing.into();
        move |status| Self::Call { doing, status: Box::new(status) }
    }

    /// Tells it, and with which code to end.
    pub fn report(self) -> ExitCode {
        match self {
            // Help and version are no failures; clap knows.
            Self::CommandLine(error) => error.exit(),
            // Whoever reads the output has read enough.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            error => {
                eprintln!("FATA[0000] {error}");
                ExitCode::FAILURE
            }
        }
    }
}
