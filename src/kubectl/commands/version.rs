//! `kubectl version`

use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::{output, say};

/// The release of Kubernetes whose kubectl this is.
const VERSION: &str = "v1.36.2+k3s1";

/// Print the client and server version information
#[derive(Debug, Args)]
pub struct Version {
    /// If true, shows client version only (no server required)
    #[arg(long)]
    client: bool,
    /// One of 'yaml' or 'json'
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: Version, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    if !matches!(format, Format::Default | Format::Json | Format::Yaml) {
        return Err(Error::usage("--output must be 'yaml' or 'json'"));
    }
    let (major, minor) = ("1", "36");
    let mut versions = json!({"clientVersion": {"major": major, "minor": minor, "gitVersion": VERSION, "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform())}});
    let mut failed = None;
    if !args.client {
        let asked = async { context.cluster().await?.get("/version").await };
        match asked.await {
            Ok(server) => versions["serverVersion"] = server,
            Err(error) => failed = Some(error),
        }
    }
    if format.is_default() {
        say!("Client Version: {VERSION}");
        if let Some(server) = versions["serverVersion"]["gitVersion"].as_str() {
            say!("Server Version: {server}");
        }
    } else {
        output::write(format.render(&versions, true)?)?;
    }
    failed.map_or(Ok(()), Err)
}

/// The architecture as Go calls it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
