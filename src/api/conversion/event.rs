//! `events.k8s.io/v1` and the core group's older events.

use serde_json::Value;

use super::rename;

/// Names in `events.k8s.io/v1`, and in the core group.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub fn to_stored(event: &mut Value) {
    rename(event, &NAMES);
}

pub fn from_stored(event: &mut Value) {
    rename(event, &NAMES.map(|(new, core)| (core, new)));
}
