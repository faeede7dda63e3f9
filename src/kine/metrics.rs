//! What the datastore counts, under kine's metric names. It belongs to no registry: whoever shows metrics registers it.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use std::time::Duration;

/// Kine's buckets of seconds, with finer ones where this is quicker.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0];

/// The code of an error, empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorCode {
    error_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Retriable {
    retriable: &'static str,
}

/// The metrics of one datastore. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    sql_total: Family<ErrorCode, Counter>,
    sql_time: Family<ErrorCode, Histogram>,
    insert_errors: Family<Retriable, Counter>,
    compact_total: Family<Outcome, Counter>,
    compact_step: Histogram,
    revision: Gauge,
    compact_revision: Gauge,
    /// Of a database in a file of this machine.
    sizes: Option<Sizes>,
}

#[derive(Debug, Clone, Default)]
struct Sizes {
    database: Gauge,
    wal: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sql_total: Family::default(),
            sql_time: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            insert_errors: Family::default(),
            compact_total: Family::default(),
            compact_step: Histogram::new(BUCKETS),
            revision: Gauge::default(),
            compact_revision: Gauge::default(),
            sizes: None,
        }
    }
}

impl Metrics {
    /// Those of a database in a file.
    pub(crate) fn of_file() -> Self {
        Self { sizes: Some(Sizes::default()), ..Self::default() }
    }

    /// What they are now, in Prometheus' text format (version 0.0.4).
    pub fn text(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = encode(&mut text, &registry);
        // The encoder writes OpenMetrics, where counters are described without the end of their name, and there is an end.
        let mut plain = text.trim_end_matches("# EOF\n").to_owned();
        for counter in ["kine_sql", "kine_insert_errors", "kine_compact"] {
            for what in ["HELP", "TYPE"] {
                plain = plain.replace(&format!("# {what} {counter} "), &format!("# {what} {counter}_total "));
            }
        }
        plain
    }

    /// Adds them to what is shown.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("kine_sql", "Total number of SQL operations", self.sql_total.clone());
        registry.register("kine_sql_time_seconds", "Length of time per SQL operation", self.sql_time.clone());
        registry.register(
            "kine_insert_errors",
            "Total number of failed transactions that write",
            self.insert_errors.clone(),
        );
        registry.register("kine_compact", "Total number of compactions", self.compact_total.clone());
        registry.register(
            "kine_compact_step_seconds",
            "How long a step of a compaction held up writes",
            self.compact_step.clone(),
        );
        registry.register("kine_current_revision", "Newest revision", self.revision.clone());
        registry.register(
            "kine_compact_revision",
            "Revision up to which the history is compacted",
            self.compact_revision.clone(),
        );
        if let Some(Sizes { database, wal }) = &self.sizes {
            registry.register("kine_database_size_bytes", "Size of the database file", database.clone());
            registry.register("kine_wal_size_bytes", "Size of what is in the write-ahead log", wal.clone());
        }
    }

    /// A transaction or query took `time`. `code` is the database's own name of what went wrong; empty: nothing.
    pub(crate) fn sql(&self, time: Duration, code: &str) {
        let label = ErrorCode { error_code: code.to_owned() };
        self.sql_total.get_or_create(&label).inc();
        self.sql_time.get_or_create(&label).observe(time.as_secs_f64());
    }

    /// A transaction that writes failed. `retriable`: it is tried again.
    pub(crate) fn insert_error(&self, retriable: bool) {
        let retriable = if retriable { "true" } else { "false" };
        self.insert_errors.get_or_create(&Retriable { retriable }).inc();
    }

    /// A compaction came to its end.
    pub(crate) fn compacted(&self, success: bool) {
        let result = if success { "success" } else { "error" };
        self.compact_total.get_or_create(&Outcome { result }).inc();
    }

    pub(crate) fn revision(&self, revision: i64) {
        self.revision.set(revision);
    }

    pub(crate) fn compact_revision(&self, revision: i64) {
        self.compact_revision.set(revision);
    }

    /// A step of a compaction, or of giving pages back, held the writer for `time`.
    pub(crate) fn compaction_step(&self, time: Duration) {
        self.compact_step.observe(time.as_secs_f64());
    }

    pub(crate) fn position(&self, revision: i64, compacted: i64) {
        self.revision.set(revision);
        self.compact_revision.set(compacted);
    }

    pub(crate) fn sizes(&self, database: i64, wal: i64) {
        if let Some(sizes) = &self.sizes {
            sizes.database.set(database);
            sizes.wal.set(wal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.sql(Duration::from_millis(3), "");
        metrics.insert_error(true);
        metrics.compacted(true);
        metrics.position(7, 3);
        let text = metrics.text();
        for line in [
            "# TYPE kine_sql_total counter",
            "kine_sql_total{error_code=\"\"} 1",
            "kine_sql_time_seconds_count{error_code=\"\"} 1",
            "# TYPE kine_insert_errors_total counter",
            "kine_insert_errors_total{retriable=\"true\"} 1",
            "kine_compact_total{result=\"success\"} 1",
            "kine_current_revision 7",
            "kine_compact_revision 3",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in {text}");
        }
        assert!(!text.contains("EOF") && !text.contains("kine_wal"), "{text}");
        assert!(Metrics::of_file().text().contains("kine_wal_size_bytes 0"));
    }
}
