//! `kubectl exec` and `kubectl attach`: streams to a container.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::flags::{Context, duration};
use crate::output;
use crate::pods;
use crate::target::Found;
use crate::terminal::{self, RawMode};

/// Execute a command in a container
#[derive(Debug, Args)]
pub struct Exec {
    /// POD or TYPE/NAME
    name: Option<String>,
    #[arg(hide = true)]
    words: Vec<String>,
    /// COMMAND, behind --
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    streams: StreamFlags,
}

/// Attach to a process that is already running inside an existing container
#[derive(Debug, Args)]
pub struct Attach {
    /// POD or TYPE/NAME
    name: String,
    #[command(flatten)]
    streams: StreamFlags,
}

/// Which container, and which of its streams.
#[derive(Debug, Clone, Default, Args)]
pub struct StreamFlags {
    /// Container name
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass stdin to the container
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Stdin is a TTY
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Only print output from the remote session
    #[arg(short, long)]
    pub quiet: bool,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub pod_running_timeout: Duration,
}

pub async fn exec(args: Exec, context: &Context) -> Result<(), Error> {
    let Some(name) = &args.name else {
        return Err(Error::usage("pod, type/name or --filename must be specified"));
    };
    if !args.words.is_empty() {
        return Err(Error::usage(
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead\nSee 'kubectl exec -h' for \
             help and examples",
        ));
    }
    if args.command.is_empty() {
        return Err(Error::usage("you must specify at least one command for the container"));
    }
    let cluster = context.cluster().await?;
    let pod = pods::one_of(&cluster, pods::named(&cluster, name).await?).await?;
    let phase = pod.object["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Error::usage(format!("cannot exec into a container in a completed pod; current phase is {phase}")));
    }
    let session = Session::new(&pod, &args.streams)?;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), pod.namespace());
    let process = api.exec(pod.name(), args.command, &session.parameters).await;
    session.run(process.map_err(|error| cluster.stream_error(error))?).await
}

pub async fn attach(args: Attach, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let pod = pods::one_of(&cluster, pods::named(&cluster, &args.name).await?).await?;
    attach_to(&cluster, &pod, &args.streams).await
}

/// Attaches to a container of a running pod until it ends, or the connection does.
pub async fn attach_to(cluster: &Cluster, pod: &Found, streams: &StreamFlags) -> Result<(), Error> {
    let session = Session::new(pod, streams)?;
    if session.raw && !streams.quiet {
        eprintln!(
            "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt."
        );
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), pod.namespace());
    let process = api.attach(pod.name(), &session.parameters).await;
    session.run(process.map_err(|error| cluster.stream_error(error))?).await
}

/// What is connected to what.
pub struct Session {
    parameters: AttachParams,
    raw: bool,
}

impl Session {
    fn new(pod: &Found, flags: &StreamFlags) -> Result<Self, Error> {
        let container = match &flags.container {
            Some(name) => {
                pods::check_container(&pod.object, name)?;
                name.clone()
            }
            None => pods::default_container(&pod.object, flags.quiet)?,
        };
        let mut tty = flags.tty;
        if tty && !flags.stdin {
            tty = false;
        }
        if tty && !terminal::is_terminal() {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
            tty = false;
        }
        // A terminal has one stream of output.
        let parameters = AttachParams {
            container: Some(container),
            stdin: flags.stdin,
            stdout: true,
            stderr: !tty,
            tty,
            ..AttachParams::default()
        };
        Ok(Self { parameters, raw: tty })
    }

    /// Passes streams on until the remote process ends; its exit code is an [`Error::Exit`].
    async fn run(self, mut process: AttachedProcess) -> Result<(), Error> {
        let _raw = if self.raw { Some(RawMode::enter()?) } else { None };
        let input = process.stdin().map(|mut remote| {
            let mut local = terminal::stdin();
            tokio::spawn(async move {
                while let Some(bytes) = local.recv().await {
                    if remote.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                // The end of the input is told by closing the stream; a remote that has closed it knows.
                let _ = remote.shutdown().await;
            })
        });
        let resize = process.terminal_size().map(|sizes| tokio::spawn(send_sizes(sizes)));
        let status = process.take_status();
        let stdout = copy(process.stdout(), false);
        let stderr = copy(process.stderr(), true);
        let (out, err) = tokio::join!(stdout, stderr);
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        for task in [input, resize].into_iter().flatten() {
            task.abort();
        }
        out?;
        err?;
        match status {
            Some(status) => exit_of(&status),
            None => match process.join().await {
                Ok(()) => Ok(()),
                Err(error) => {
                    Err(Error::Stream { action: "error reading from the container", cause: error.to_string() })
                }
            },
        }
    }
}

/// The terminal's size, now and whenever it changes.
async fn send_sizes(mut sizes: impl futures::Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some(size) = terminal::size()
            && sizes.send(size).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, to_stderr: bool) -> Result<(), Error> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; 8192];
    loop {
        let count = from.read(&mut buffer).await;
        let count = count.map_err(|error| Error::Stream { action: "reading the output", cause: error.to_string() })?;
        if count == 0 {
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(&buffer[..count]);
        if to_stderr {
            use std::io::Write;
            std::io::stderr().write_all(&bytes).map_err(Error::Output)?;
        } else {
            output::write_bytes(&bytes)?;
        }
    }
}

/// What the remote's last words mean.
pub fn exit_of(status: &Status) -> Result<(), Error> {
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref());
    let code = causes.into_iter().flatten().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    if let Some(code) = code.and_then(|cause| cause.message.as_deref()).and_then(|code| code.parse::<u8>().ok()) {
        return Err(Error::Exit(code));
    }
    let message = status.message.clone().unwrap_or_else(|| "the remote command failed".to_owned());
    Err(Error::usage(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exit_codes_come_from_the_causes() {
        let failed: Status = serde_json::from_value(json!({"status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "42"}]}}))
        .unwrap();
        assert!(matches!(exit_of(&failed), Err(Error::Exit(42))));
        let ok: Status = serde_json::from_value(json!({"status": "Success"})).unwrap();
        assert!(exit_of(&ok).is_ok());
        let other: Status =
            serde_json::from_value(json!({"status": "Failure", "message": "no such container"})).unwrap();
        assert_eq!(exit_of(&other).unwrap_err().to_string(), "error: no such container");
    }
}
