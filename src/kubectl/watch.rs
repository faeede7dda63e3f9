//! Watches: events of a resource, line by line.

use futures::AsyncBufReadExt;
use futures::stream::{BoxStream, StreamExt};
use serde_json::Value;

use crate::cluster::{Cluster, JSON, Query};
use crate::error::{ApiError, Error};

/// A change: `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, and the object (or table) it is about.
pub struct Event {
    pub kind: String,
    pub object: Value,
}

/// Watches `path`; ends when the server ends it. An `ERROR` event is an error.
pub async fn watch(
    cluster: &Cluster,
    path: &str,
    query: &Query,
) -> Result<BoxStream<'static, Result<Event, Error>>, Error> {
    watch_as(cluster, path, query, JSON).await
}

/// As [`watch`], of what the `Accept` header says.
pub async fn watch_as(
    cluster: &Cluster,
    path: &str,
    query: &Query,
    accept: &str,
) -> Result<BoxStream<'static, Result<Event, Error>>, Error> {
    let query = query.clone().with("watch", "true");
    let lines = cluster.stream(&format!("{path}{query}"), accept).await?.lines();
    let path = path.to_owned();
    Ok(lines
        .filter_map(move |line| {
            let event = match line {
                Ok(line) if line.trim().is_empty() => None,
                Ok(line) => Some(parse(&line, &path)),
                Err(error) => Some(Err(Error::Stream { action: "watching", cause: error.to_string() })),
            };
            async move { event }
        })
        .boxed())
}

fn parse(line: &str, path: &str) -> Result<Event, Error> {
    let mut event: Value = serde_json::from_str(line)
        .map_err(|error| Error::Answer { request: format!("watch {path}"), cause: error.to_string() })?;
    let object = event["object"].take();
    match event["type"].as_str().unwrap_or_default() {
        "ERROR" => {
            let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            Err(Error::Api(Box::new(ApiError::of(code, object.to_string().as_bytes(), "watch"))))
        }
        kind => Ok(Event { kind: kind.to_owned(), object }),
    }
}

/// Follows one object: `visit` gets it now and after each change, and `None` when it is gone, until it answers `true`.
pub async fn until(
    cluster: &Cluster,
    collection: &str,
    name: &str,
    mut visit: impl FnMut(Option<&Value>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let query = Query::new().with("fieldSelector", &format!("metadata.name={name}"));
    loop {
        let list = cluster.get(&format!("{collection}{query}")).await?;
        if visit(list["items"].get(0))? {
            return Ok(());
        }
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut events = watch(cluster, collection, &query.clone().with("resourceVersion", revision)).await?;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                // The history is gone, or the connection: list again.
                Err(Error::Api(error)) if error.code == 410 => break,
                Err(Error::Stream { .. }) => break,
                Err(error) => return Err(error),
            };
            let object = (event.kind != "DELETED").then_some(&event.object);
            if event.kind != "BOOKMARK" && visit(object)? {
                return Ok(());
            }
        }
    }
}
