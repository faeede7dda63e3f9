//! `kubectl create token`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::one_name;
use crate::error::Error;
use crate::flags::{Context, duration};
use crate::output::{self, Format};
use crate::say;

#[derive(Debug, Args)]
pub struct Token {
    /// SERVICE_ACCOUNT_NAME
    names: Vec<String>,
    /// Audience of the requested token. May be repeated
    #[arg(long)]
    audience: Vec<String>,
    /// Requested lifetime of the issued token
    #[arg(long, default_value = "0", value_parser = duration)]
    duration: Duration,
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: Token, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let name = one_name(&args.names, "create token")?;
    let cluster = context.cluster().await?;
    let mut spec = json!({"audiences": args.audience});
    if !args.duration.is_zero() {
        spec["expirationSeconds"] = json!(args.duration.as_secs());
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", cluster.namespace);
    let answer = cluster.create(&path, &request).await.map_err(|error| match error {
        Error::Api(mut error) => {
            error.message = format!("failed to create token: {}", error.message);
            Error::Api(error)
        }
        other => other,
    })?;
    if !format.is_default() {
        return output::write(format.render(&answer, true)?);
    }
    match answer["status"]["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => say!("{token}"),
        None => return Err(Error::usage("failed to create token: no token in server response")),
    }
    Ok(())
}
