//! `/containerLogs`.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k3s_cri::ContainerState;
use k3s_streaming::{Body, Refusal, text};
use tokio::sync::mpsc;

use super::containers;
use super::query::Query;
use crate::context::Context;
use crate::logs::read::{Options, Piece, read};
use crate::pod::spec;

pub(super) async fn logs(
    ctx: &Arc<Context>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let bad = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    let options = options(query).map_err(bad)?;
    let object = containers::pod(ctx, namespace, pod)?;
    if !spec::containers(&object).iter().any(|spec| spec.name() == container) {
        let message = format!("container \"{container}\" not found in pod \"{pod}\"");
        return Err(Refusal(StatusCode::NOT_FOUND, message));
    }
    let observed = containers::observed(ctx, &object).await?;
    let mut history = observed.history(container).iter().filter(|run| run.state != ContainerState::Created);
    let run = if query.flag("previous") {
        let message = format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
        history.nth(1).ok_or_else(|| bad(message))?
    } else {
        let waits = waiting_reason(&object, container);
        let message = format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {waits}");
        history.next().ok_or_else(|| bad(message))?
    };
    let path = match run.log_path.is_absolute() {
        true => run.log_path.clone(),
        false => {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            ctx.config.pod_log_dir(namespace, pod, uid).join(&run.log_path)
        }
    };
    if !path.exists() {
        // Nothing was written, or it was cleaned up.
        return Ok(text(StatusCode::OK, ""));
    }
    Ok(stream(ctx.clone(), run.id.clone(), path, options))
}

fn waiting_reason(pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let found = lists.into_iter().flatten().flatten().flatten().find(|status| status.name == container);
    let waiting = found.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
    waiting.unwrap_or_else(|| "ContainerCreating".into())
}

/// The body reads the log as fast as the client takes it.
fn stream(ctx: Arc<Context>, id: String, path: PathBuf, options: Options) -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<Piece>(4);
    let running = move || {
        let (ctx, id) = (ctx.clone(), id.clone());
        async move { ctx.runtime.container_status(&id).await.is_ok_and(|status| status.state == ContainerState::Running) }
    };
    // The reader is polled by the body itself: it ends when the connection does, and has no task of its own.
    let reading = Box::pin(read(path, options, running, sender));
    let frames = futures::stream::unfold((Some(reading), receiver), |(mut reading, mut receiver)| async move {
        loop {
            let piece = match reading.as_mut() {
                None => receiver.recv().await,
                Some(task) => tokio::select! {
                    biased;
                    piece = receiver.recv() => piece,
                    ended = task => {
                        reading = None;
                        match ended {
                            Ok(()) => continue,
                            Err(error) => return Some((Err(error), (None, receiver))),
                        }
                    }
                },
            };
            return piece.map(|piece| (Ok(Frame::data(piece.data.freeze())), (reading, receiver)));
        }
    });
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = StreamBody::new(frames.boxed()).boxed_unsync();
    response
}

fn options(query: &Query) -> Result<Options, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        query.get(name).map(|text| text.parse().map_err(|_| format!("invalid {name}: {text:?}"))).transpose()
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(_), Some(_)) => return Err("at most one of sinceTime or sinceSeconds may be specified".into()),
        (Some(seconds), None) => {
            let seconds = i64::try_from(seconds).map_err(|_| "invalid sinceSeconds".to_owned())?;
            // Before all time is since for ever.
            Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).ok()
        }
        (None, Some(time)) => Some(time.parse().map_err(|_| format!("invalid sinceTime: {time:?}"))?),
        (None, None) => None,
    };
    Ok(Options {
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        tail_lines: number("tailLines")?,
        limit_bytes: number("limitBytes")?,
        since,
        stderr: match query.get("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some(false),
            Some("Stderr") => Some(true),
            Some(other) => return Err(format!("invalid stream: {other:?}")),
        },
    })
}
