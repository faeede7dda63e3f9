//! `/metrics`: what Prometheus reads, by Kubernetes' names.

pub(crate) mod family;
pub(crate) mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use crate::discovery::GIT_VERSION;
use crate::{ApiServer, Body, authorization, flow_control};

/// The metrics in Prometheus' text format, version 0.0.4.
pub(crate) fn handle(server: &ApiServer) -> Response<Body> {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let build = format!("{{git_version=\"{GIT_VERSION}\",major=\"1\",minor=\"36\",platform=\"linux/amd64\"}}");
    metric("kubernetes_build_info", "gauge", "The version of this server.", &[(build, 1.0)]);
    let revision = server.registry().revision() as f64;
    let help = "The datastore's revision up to which the watch caches are complete.";
    metric("apiserver_watch_cache_resource_version", "gauge", help, &[(String::new(), revision)]);
    let ready = f64::from(u8::from(server.health().is_ready()));
    let labels = "{name=\"ready\",type=\"readyz\"}".to_owned();
    metric("kubernetes_healthcheck", "gauge", "Whether a health check passes.", &[(labels, ready)]);
    if let Some(audit) = server.audit() {
        let (events, lost) = audit.counts();
        let help = "Events for the audit log.";
        metric("apiserver_audit_event_total", "counter", help, &[(String::new(), events as f64)]);
        let help = "Events that could not be written to the audit log, or delivered to the webhook.";
        let lost: Vec<_> =
            lost.into_iter().map(|(plugin, lost)| (format!("{{plugin=\"{plugin}\"}}"), lost as f64)).collect();
        metric("apiserver_audit_error_total", "counter", help, &lost);
    }
    for (name, kind, help, samples) in flow_control::metrics::all(server.flow_control()) {
        metric(name, kind, help, &samples);
    }
    for (name, kind, help, samples) in server.requests().metrics() {
        metric(name, kind, help, &samples);
    }
    for (name, kind, help, samples) in server.admission().webhook_metrics().all() {
        metric(name, kind, help, &samples);
    }
    for (name, kind, help, samples) in authorization::metrics::all(server.authorizer()) {
        metric(name, kind, help, &samples);
    }
    let help = "Objects in the watch cache, of the resources that have been read.";
    metric("apiserver_storage_objects", "gauge", help, &objects(server));
    if let Some(bytes) = resident_bytes() {
        let help = "Resident memory size in bytes.";
        metric("process_resident_memory_bytes", "gauge", help, &[(String::new(), bytes)]);
    }
    if let Some(datastore) = &server.config().datastore_metrics {
        out.push_str(&datastore.text());
    }
    let mut response = Response::new(Body::from(out));
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// How many objects there are of each resource, whatever versions it is served in.
fn objects(server: &ApiServer) -> Vec<(String, f64)> {
    let (mut counts, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for row in server.registry().resources() {
        let count = server.registry().known_objects(&row);
        // Of several versions and groups of the same objects, such as events, the first.
        if seen.insert(row.storage_prefix.to_string()) && count > 0 {
            let dot = if row.group.is_empty() { "" } else { "." };
            counts.insert(format!("{{resource=\"{}{dot}{}\"}}", row.plural, row.group), count as f64);
        }
    }
    counts.into_iter().collect()
}

/// What the kernel says of this process.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}
