//! `kubectl events`

use clap::Args;
use futures::StreamExt;
use serde_json::Value;

use crate::cluster::Query;
use crate::describe::{interval, last_seen};
use crate::error::Error;
use crate::flags::Context;
use crate::output::columns::Columns;
use crate::output::{self, Format};
use crate::target::CHUNK;
use crate::watch;

/// List events
#[derive(Debug, Args)]
pub struct Events {
    /// If present, list the events across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Filter events to only those pertaining to the specified resource (TYPE/NAME)
    #[arg(long = "for")]
    subject: Option<String>,
    /// Output only events of given types
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// After listing the requested events, watch for more events
    #[arg(short, long)]
    watch: bool,
    /// When using the default output format, don't print headers
    #[arg(long)]
    no_headers: bool,
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: Events, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let cluster = context.cluster().await?;
    let path = match args.all_namespaces {
        true => "/api/v1/events".to_owned(),
        false => format!("/api/v1/namespaces/{}/events", cluster.namespace),
    };
    let mut query = Query::new();
    if let Some(subject) = &args.subject {
        let (kind, name) = subject
            .split_once('/')
            .ok_or_else(|| Error::usage(format!("--for must be in resource/name form, not {subject}")))?;
        let resource = cluster.discovery().await?.find(kind)?;
        query.add("fieldSelector", &format!("involvedObject.kind={},involvedObject.name={name}", resource.kind));
    }
    let wanted = |event: &Value| {
        args.types.is_empty()
            || event["type"].as_str().is_some_and(|own| args.types.iter().any(|kind| kind.eq_ignore_ascii_case(own)))
    };
    let mut list = cluster.list(&path, &query, CHUNK).await?;
    let Value::Array(mut events) = list["items"].take() else { return Ok(()) };
    events.retain(wanted);
    events.sort_by_key(|event| last_seen(event).as_str().unwrap_or_default().to_owned());
    let mut columns = Columns::new();
    if !format.is_default() {
        output::write(format.render(&output::list_of(events), true)?)?;
    } else if events.is_empty() && !args.watch {
        let place = if args.all_namespaces { ".".to_owned() } else { format!(" in {} namespace.", cluster.namespace) };
        eprintln!("No events found{place}");
    } else {
        let mut rows = Vec::new();
        if !args.no_headers {
            rows.push(header(args.all_namespaces));
        }
        rows.extend(events.iter().map(|event| row(event, args.all_namespaces)));
        output::write(columns.render(&rows))?;
    }
    if !args.watch {
        return Ok(());
    }
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let mut stream = watch::watch(&cluster, &path, &query.with("resourceVersion", revision)).await?;
    while let Some(event) = stream.next().await {
        let event = event?;
        if event.kind == "BOOKMARK" || event.kind == "DELETED" || !wanted(&event.object) {
            continue;
        }
        if format.is_default() {
            output::write(columns.render(&[row(&event.object, args.all_namespaces)]))?;
        } else {
            output::write(format.render(&event.object, false)?)?;
        }
    }
    Ok(())
}

fn header(with_namespace: bool) -> Vec<String> {
    let titles = ["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    titles.iter().skip(usize::from(!with_namespace)).map(|title| (*title).to_owned()).collect()
}

fn row(event: &Value, with_namespace: bool) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
    let subject = &event["involvedObject"];
    let mut cells = Vec::new();
    if with_namespace {
        cells.push(text(&event["metadata"]["namespace"]));
    }
    cells.extend([
        interval(event),
        text(&event["type"]),
        text(&event["reason"]),
        format!("{}/{}", text(&subject["kind"]), text(&subject["name"])),
        text(&event["message"]).replace('\n', " "),
    ]);
    cells
}
