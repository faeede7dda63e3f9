//! `crictl logs`

use std::io::Write;
use std::path::Path;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use k3s_kubelet::logs::read::{Options, read};
use k8s_cri::v1::*;
use tokio::sync::mpsc;

use crate::connection::Connection;
use crate::endpoint;
use crate::error::Error;
use crate::human::parse_duration;

/// Fetch the logs of a container
#[derive(Debug, Args)]
pub struct Logs {
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
    /// Go on with what is written later
    #[arg(short, long)]
    follow: bool,
    /// At most so many bytes
    #[arg(long)]
    limit_bytes: Option<u64>,
    /// The container's run before this one
    #[arg(short, long)]
    previous: bool,
    /// Have the runtime open its log file anew, and show nothing
    #[arg(short, long)]
    reopen: bool,
    /// Only what is newer: a time such as 2026-01-02T13:23:37Z, or a duration such as 42m
    #[arg(long, value_parser = since)]
    since: Option<Timestamp>,
    /// Only so many lines from the end
    #[arg(long)]
    tail: Option<i64>,
    /// Show times
    #[arg(short, long)]
    timestamps: bool,
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let before = SignedDuration::try_from(parse_duration(text)?).map_err(|error| error.to_string())?;
    Timestamp::now().checked_sub(before).map_err(|error| error.to_string())
}

async fn status(cri: &mut Connection, id: &str) -> Result<ContainerStatus, Error> {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let answer = cri.runtime.container_status(request).await;
    let answer = answer.map_err(Error::call(format!("getting the status of the container {id:?}")))?;
    Ok(answer.into_inner().status.unwrap_or_default())
}

/// The container of the same name and pod that ran before this one.
async fn previous(cri: &mut Connection, of: &ContainerStatus) -> Result<ContainerStatus, Error> {
    let none = || Error::NotFound(format!("the container {:?} has not run before", of.id));
    let metadata = of.metadata.clone().unwrap_or_default();
    let before = metadata.attempt.checked_sub(1).ok_or_else(none)?;
    let all = cri.runtime.list_containers(ListContainersRequest::default()).await;
    let all = all.map_err(Error::call("list containers"))?.into_inner().containers;
    let pod = all.iter().find(|container| container.id == of.id).map(|container| container.pod_sandbox_id.clone());
    let found = all.iter().find(|container| {
        let known = container.metadata.as_ref();
        Some(&container.pod_sandbox_id) == pod.as_ref()
            && known.is_some_and(|known| known.name == metadata.name && known.attempt == before)
    });
    status(cri, &found.ok_or_else(none)?.id).await
}

impl Logs {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        if self.reopen {
            let request = ReopenContainerLogRequest { container_id: self.id.clone() };
            let reopened = cri.runtime.reopen_container_log(request).await;
            return reopened.map(drop).map_err(Error::call("reopening the container's log"));
        }
        let mut container = status(cri, &self.id).await?;
        if self.previous {
            container = previous(cri, &container).await?;
        }
        if container.log_path.is_empty() {
            return Err(Error::NotFound(format!("the container {:?} has no log", self.id)));
        }
        let path = endpoint::file_of_node(&cri.socket, Path::new(&container.log_path));
        let options = Options {
            follow: self.follow,
            timestamps: self.timestamps,
            tail_lines: self.tail.and_then(|lines| u64::try_from(lines).ok()),
            limit_bytes: self.limit_bytes,
            since: self.since,
            stderr: None,
        };
        let (sender, mut pieces) = mpsc::channel(8);
        let runtime = cri.runtime.clone();
        let running = || {
            let (mut runtime, container_id) = (runtime.clone(), container.id.clone());
            async move {
                let answer = runtime.container_status(ContainerStatusRequest { container_id, verbose: false }).await;
                answer.is_ok_and(|answer| {
                    answer.into_inner().status.is_some_and(|it| it.state() == ContainerState::ContainerRunning)
                })
            }
        };
        let reading = read(path.clone(), options, running, sender);
        let writing = async {
            while let Some(piece) = pieces.recv().await {
                let written = if piece.stderr {
                    std::io::stderr().write_all(&piece.data)
                } else {
                    let mut stdout = std::io::stdout();
                    stdout.write_all(&piece.data).and_then(|()| stdout.flush())
                };
                written.map_err(Error::Output)?;
            }
            Ok(())
        };
        let (read, written) = tokio::join!(reading, writing);
        read.map_err(|error| Error::File { path, detail: error.to_string() })?;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_or_a_duration_says_since_when() {
        assert_eq!(since("2026-01-02T13:23:37Z").unwrap().to_string(), "2026-01-02T13:23:37Z");
        let ago = Timestamp::now().duration_since(since("10s").unwrap());
        assert!((9..12).contains(&ago.as_secs()), "{ago}");
        assert!(since("yesterday").is_err());
        assert_eq!(parse_duration("2").unwrap(), Duration::from_secs(2));
    }
}
