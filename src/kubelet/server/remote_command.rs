//! `/exec`, `/attach` and `/run`.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use k3s_cri::ExecRequest;
use k3s_streaming::{Body, Refusal, Wanted, remote_command, text};

use super::containers::{self, Path};
use super::query::Query;
use crate::Kubelet;
use crate::context::Context;

const RUN_TIMEOUT: Duration = Duration::from_secs(120);

fn command(query: &Query) -> Result<Vec<String>, Refusal> {
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "you must specify at least one command".into()));
    }
    Ok(command)
}

fn wanted(query: &Query) -> Wanted {
    // The API server's names first, then those of clients that come directly.
    let either = |a, b| query.flag(a) || query.flag(b);
    Wanted {
        stdin: either("input", "stdin"),
        stdout: either("output", "stdout"),
        stderr: either("error", "stderr"),
        tty: query.flag("tty"),
    }
}

pub(super) async fn exec<B>(
    kubelet: &Arc<Kubelet>,
    request: Request<B>,
    path: Path<'_>,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let (wanted, command) = (wanted(query), command(query)?);
    let (_, run) = containers::running(&kubelet.ctx, path).await?;
    let ctx = kubelet.ctx.clone();
    let exec = ExecRequest { container_id: run.id, command, tty: wanted.tty };
    remote_command(&kubelet.connections, request, wanted, move |streams| async move {
        ctx.runtime.exec(exec, streams).await
    })
}

pub(super) async fn attach<B>(
    kubelet: &Arc<Kubelet>,
    request: Request<B>,
    path: Path<'_>,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let mut wanted = wanted(query);
    let (pod, run) = containers::running(&kubelet.ctx, path).await?;
    let specs = crate::pod::spec::containers(&pod);
    // Whether there is a terminal is the container's to say.
    wanted.tty = specs.iter().any(|spec| spec.name() == path.2 && spec.container.tty == Some(true));
    let ctx = kubelet.ctx.clone();
    remote_command(&kubelet.connections, request, wanted, move |streams| async move {
        ctx.runtime.attach(&run.id, streams).await.map(|()| 0)
    })
}

pub(super) async fn run(ctx: &Context, path: Path<'_>, query: &Query) -> Result<Response<Body>, Refusal> {
    let command: Vec<String> = match query.get("cmd") {
        Some(words) => words.split_whitespace().map(str::to_owned).collect(),
        None => command(query)?,
    };
    let (_, run) = containers::running(ctx, path).await?;
    match ctx.runtime.exec_sync(&run.id, command, RUN_TIMEOUT).await {
        Ok(output) => Ok(text(StatusCode::OK, [output.stdout, output.stderr].concat())),
        Err(error) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
