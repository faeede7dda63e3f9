//! Flags of the project kine about things that are done in another way here, or not at all.

/// They are taken, so that a command line for kine works as it is, and named in a warning.
#[derive(clap::Args, Default)]
pub struct WithoutEffect {
    #[arg(long, hide = true)]
    compact_interval_jitter: Option<String>,
    #[arg(long, hide = true)]
    compact_timeout: Option<String>,
    #[arg(long, hide = true)]
    compact_batch_size: Option<String>,
    #[arg(long, hide = true)]
    poll_batch_size: Option<String>,
    #[arg(long, hide = true)]
    slow_sql_threshold: Option<String>,
    #[arg(long, hide = true)]
    slow_sql_warning_threshold: Option<String>,
    #[arg(long, hide = true)]
    emulated_etcd_version: Option<String>,
}

impl WithoutEffect {
    /// Each that is given, and why it has no effect.
    pub fn given(&self) -> Vec<(&'static str, &'static str)> {
        let steps = "compaction goes in steps of some milliseconds and always to its end";
        let slow = "the metric kine_sql_time_seconds shows how long the database takes";
        [
            (&self.compact_interval_jitter, "--compact-interval-jitter", "servers take turns by themselves"),
            (&self.compact_timeout, "--compact-timeout", steps),
            (&self.compact_batch_size, "--compact-batch-size", steps),
            (&self.poll_batch_size, "--poll-batch-size", "writes of others are told, not polled in batches"),
            (&self.slow_sql_threshold, "--slow-sql-threshold", slow),
            (&self.slow_sql_warning_threshold, "--slow-sql-warning-threshold", slow),
            (&self.emulated_etcd_version, "--emulated-etcd-version", "the version is one that has all that is served"),
        ]
        .into_iter()
        .filter(|(given, ..)| given.is_some())
        .map(|(_, flag, why)| (flag, why))
        .collect()
    }
}
