//! `apiserver_request_*`: requests for resources, by what they asked for and how they ended.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::family::{Histogram, Metric};
use crate::registry::Row;
use crate::request::{Query, RequestInfo};

/// Kubernetes' buckets of durations, in seconds.
static BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// All of them. Resources are those that are served, so users can't make it grow.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<HashMap<Box<str>, Counts>>);

#[derive(Debug)]
struct Counts {
    codes: Vec<(u16, u64)>,
    durations: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        Self { codes: Vec::new(), durations: Histogram::new(&BUCKETS) }
    }
}

impl Requests {
    /// Counts a request whose answer is there. A watch or connection counts when it has begun, and not how long it lasts.
    pub fn count(&self, what: What, code: StatusCode) {
        let What { labels, begin, is_stream } = what;
        let mut all = self.0.lock();
        let counts = match all.get_mut(labels.as_str()) {
            Some(counts) => counts,
            None => all.entry(labels.into_boxed_str()).or_default(),
        };
        match counts.codes.iter_mut().find(|(known, _)| *known == code.as_u16()) {
            Some((_, count)) => *count += 1,
            None => counts.codes.push((code.as_u16(), 1)),
        }
        if !is_stream {
            counts.durations.observe(begin.elapsed());
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> [Metric; 2] {
        let (mut totals, mut durations) = (Vec::new(), Vec::new());
        let all = self.0.lock();
        let mut sorted: Vec<_> = all.iter().collect();
        sorted.sort_unstable_by_key(|(labels, _)| *labels);
        for (labels, counts) in sorted {
            for (code, count) in &counts.codes {
                totals.push((format!("{{code=\"{code}\",{labels}}}"), *count as f64));
            }
            if !counts.durations.is_empty() {
                counts.durations.write(labels, &mut durations);
            }
        }
        [
            ("apiserver_request_total", "counter", "Requests for resources.", totals),
            (
                "apiserver_request_duration_seconds",
                "histogram",
                "How long requests for resources took that are no streams.",
                durations,
            ),
        ]
    }
}

/// What a request asks for, and since when.
pub(crate) struct What {
    labels: String,
    begin: Instant,
    is_stream: bool,
}

impl What {
    /// A request that is about to be answered.
    pub fn new(info: &RequestInfo, row: &Row, query: &Query, headers: &HeaderMap) -> Self {
        let mut labels = String::with_capacity(192);
        let dry_run = if query.get("dryRun").is_some_and(|text| !text.is_empty()) { "All" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            labels,
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{}\",resource=\"{}\",scope=\"{}\",\
             subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            row.group,
            row.plural,
            scope(info),
            info.subresource,
            verb(info, headers),
            row.version,
        );
        Self { labels, begin: Instant::now(), is_stream: info.is_long_running() }
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match info.verb {
        "list" | "watch" | "deletecollection" if info.namespace.is_empty() => "cluster",
        "list" | "watch" | "deletecollection" => "namespace",
        _ => "resource",
    }
}

fn verb(info: &RequestInfo, headers: &HeaderMap) -> &'static str {
    if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy" | "log") {
        return "CONNECT";
    }
    match info.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => match headers.get(CONTENT_TYPE) {
            Some(of) if of.as_bytes().starts_with(b"application/apply-patch") => "APPLY",
            _ => "PATCH",
        },
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}
