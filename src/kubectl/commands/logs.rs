//! `kubectl logs`

use clap::Args;
use futures::AsyncBufReadExt;
use futures::StreamExt;
use futures::stream::{FuturesUnordered, SelectAll};
use std::time::Duration;

use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::flags::{Context, duration};
use crate::output;
use crate::pods;
use crate::target::{self, Found};

/// Print the logs for a container in a pod
#[derive(Debug, Args)]
pub struct Logs {
    /// POD or TYPE/NAME
    name: Option<String>,
    /// CONTAINER
    container_word: Option<String>,
    /// Specify if the logs should be streamed
    #[arg(short, long)]
    follow: bool,
    /// Print the logs of this container
    #[arg(short, long)]
    container: Option<String>,
    /// Get all containers' logs in the pod(s)
    #[arg(long)]
    all_containers: bool,
    /// Get logs from all pod(s) of the object
    #[arg(long)]
    all_pods: bool,
    /// If true, print the logs for the previous instance of the container in a pod if it exists
    #[arg(short, long)]
    previous: bool,
    /// Lines of recent log file to display; -1: all, but 10 with a selector
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    tail: i64,
    /// Only return logs newer than a relative duration like 5s, 2m, or 3h
    #[arg(long, default_value = "0", value_parser = duration)]
    since: Duration,
    /// Only return logs after a specific date (RFC3339)
    #[arg(long)]
    since_time: Option<String>,
    /// Maximum bytes of logs to return
    #[arg(long)]
    limit_bytes: Option<u64>,
    /// Include timestamps on each line in the log output
    #[arg(long)]
    timestamps: bool,
    /// Prefix each log line with the log source (pod name and container name)
    #[arg(long)]
    prefix: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Specify maximum number of concurrent logs to follow when using by a selector
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
    /// If watching / following pod logs, allow for any errors that occur to be non-fatal
    #[arg(long)]
    ignore_errors: bool,
}

pub async fn run(args: Logs, context: &Context) -> Result<(), Error> {
    let container = args.container.clone().or(args.container_word.clone());
    if args.container.is_some() && args.container_word.is_some() {
        return Err(Error::usage("only one of -c or an inline [CONTAINER] arg is allowed"));
    }
    if args.all_containers && container.is_some() {
        return Err(Error::usage("--all-containers=true should not be specified with container name"));
    }
    if args.since_time.is_some() && !args.since.is_zero() {
        return Err(Error::usage("at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    let cluster = context.cluster().await?;
    let pods = args.pods(&cluster).await?;
    if pods.is_empty() {
        eprintln!("No resources found in {} namespace.", cluster.namespace);
        return Ok(());
    }
    let mut sources = Vec::new();
    for pod in &pods {
        let names = if args.all_containers {
            pods::containers(&pod.object, true)
        } else if let Some(name) = &container {
            pods::check_container(&pod.object, name)
                .map_err(|_| Error::usage(format!("container {name} is not valid for pod {}", pod.name())))?;
            vec![name.clone()]
        } else {
            vec![pods::default_container(&pod.object, false)?]
        };
        sources.extend(names.into_iter().map(|name| (pod.clone(), name)));
    }
    if args.follow && sources.len() > args.max_log_requests {
        return Err(Error::usage(format!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to \
             increase the limit",
            sources.len(),
            args.max_log_requests
        )));
    }
    let query = args.query();
    if args.follow && sources.len() > 1 {
        return together(&args, &cluster, &sources, &query).await;
    }
    for (pod, name) in &sources {
        if let Err(error) = one(&args, &cluster, pod, name, &query).await {
            if !args.ignore_errors {
                return Err(error);
            }
            eprintln!("error: {error}");
        }
    }
    Ok(())
}

impl Logs {
    async fn pods(&self, cluster: &Cluster) -> Result<Vec<Found>, Error> {
        match (&self.name, &self.selector) {
            (None, None) => Err(Error::usage(
                "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the \
                 logs command\nSee 'kubectl logs -h' for help and examples",
            )),
            (Some(_), Some(_)) => Err(Error::usage("only a selector (-l) or a POD name is allowed")),
            (None, Some(selector)) => {
                let query = Query::new().with("labelSelector", selector);
                target::list(cluster, &pods::pod_resource(), Some(&cluster.namespace), &query).await
            }
            (Some(word), None) => {
                let found = pods::named(cluster, word).await.map_err(|error| match error {
                    Error::Api(error) if error.reason == "NotFound" => Error::usage(format!(
                        "error from server (NotFound): {} in namespace \"{}\"",
                        error.message, cluster.namespace
                    )),
                    other => other,
                })?;
                if self.all_pods {
                    return pods::of(cluster, found).await;
                }
                let direct = found.resource.is("", "pods");
                let named = found.named();
                let several = if direct { 1 } else { pods::of(cluster, found.clone()).await?.len() };
                let pod = pods::one_of(cluster, found).await?;
                if several > 1 {
                    eprintln!("Found {several} pods, using pod/{}", pod.name());
                } else if several == 0 {
                    return Err(Error::usage(format!("no pods found for {named}")));
                }
                Ok(vec![pod])
            }
        }
    }

    fn query(&self) -> Query {
        let tail = match self.tail {
            -1 if self.selector.is_some() => Some("10".to_owned()),
            tail if tail < 0 => None,
            tail => Some(tail.to_string()),
        };
        let since = (!self.since.is_zero()).then(|| self.since.as_secs_f64().ceil().to_string());
        let limit = self.limit_bytes.map(|limit| limit.to_string());
        let switch = |on: bool| on.then_some("true");
        Query::new()
            .with_some("follow", switch(self.follow))
            .with_some("previous", switch(self.previous))
            .with_some("timestamps", switch(self.timestamps))
            .with_some("tailLines", tail.as_deref())
            .with_some("sinceSeconds", since.as_deref())
            .with_some("sinceTime", self.since_time.as_deref())
            .with_some("limitBytes", limit.as_deref())
    }
}

fn path(pod: &Found, container: &str, query: &Query) -> String {
    format!("{}/log{}", pod.path(), query.clone().with("container", container))
}

/// One log; without prefixes its bytes go through as they are.
async fn one(args: &Logs, cluster: &Cluster, pod: &Found, container: &str, query: &Query) -> Result<(), Error> {
    let mut log = cluster.stream(&path(pod, container, query), "text/plain,*/*").await?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = log.read_until(b'\n', &mut line).await;
        if read.map_err(|error| Error::Stream { action: "reading the log", cause: error.to_string() })? == 0 {
            return Ok(());
        }
        if args.prefix {
            output::write(prefix(pod, container))?;
        }
        output::write_bytes(&line)?;
    }
}

fn prefix(pod: &Found, container: &str) -> String {
    format!("[pod/{}/{container}] ", pod.name())
}

/// Several logs at once, line by line as they come.
async fn together(args: &Logs, cluster: &Cluster, sources: &[(Found, String)], query: &Query) -> Result<(), Error> {
    let mut opening: FuturesUnordered<_> = sources
        .iter()
        .map(|(pod, name)| async move {
            let log = cluster.stream(&path(pod, name, query), "text/plain,*/*").await?;
            let prefix = if args.prefix { prefix(pod, name) } else { String::new() };
            Ok::<_, Error>(log.lines().map(move |line| (prefix.clone(), line)).boxed())
        })
        .collect();
    let mut logs = SelectAll::new();
    while let Some(log) = opening.next().await {
        match log {
            Ok(log) => logs.push(log),
            Err(error) if args.ignore_errors => eprintln!("{error}"),
            Err(error) => return Err(error),
        }
    }
    while let Some((prefix, line)) = logs.next().await {
        match line {
            Ok(line) => output::write(format_args!("{prefix}{line}\n"))?,
            Err(error) if args.ignore_errors => eprintln!("error: {error}"),
            Err(error) => return Err(Error::Stream { action: "reading the log", cause: error.to_string() }),
        }
    }
    Ok(())
}
