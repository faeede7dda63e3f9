//! What is written of requests, and where to.

use std::path::PathBuf;
use std::time::Duration;

use super::{FLAG, one_of, path, switch};
use crate::flag::types;
use crate::{Error, Values};

const MODES: [&str; 3] = ["batch", "blocking", "blocking-strict"];

/// Flags of the audit log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditArguments {
    pub policy_file: Option<PathBuf>,
    /// `-`: standard output.
    pub log_path: Option<PathBuf>,
    /// In megabytes.
    pub max_size: Option<u32>,
    /// Old files that are kept.
    pub max_backups: Option<u32>,
    /// Days that old files are kept.
    pub max_age: Option<u32>,
    pub compress: Option<bool>,
    /// `json` or `legacy`.
    pub format: Option<String>,
    /// `batch`, `blocking` or `blocking-strict`.
    pub mode: Option<String>,
    /// Events that may wait in batch mode.
    pub buffer: Option<u32>,
    pub truncate: Option<TruncateArguments>,
    pub webhook: Option<AuditWebhookArguments>,
}

/// How long events may be, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TruncateArguments {
    pub max_event_size: Option<u32>,
    pub max_batch_size: Option<u32>,
}

/// Flags of the server that events are delivered to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditWebhookArguments {
    pub config_file: PathBuf,
    /// `batch`, `blocking` or `blocking-strict`.
    pub mode: Option<String>,
    pub buffer: Option<u32>,
    /// Events that are delivered together.
    pub max_batch: Option<u32>,
    pub max_wait: Option<Duration>,
    pub throttle: Option<bool>,
    /// Deliveries per second.
    pub qps: Option<f64>,
    pub burst: Option<u32>,
    pub initial_backoff: Option<Duration>,
    pub truncate: Option<TruncateArguments>,
}

impl AuditArguments {
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        let number = |name: &str| values.argument(FLAG, name, types::number);
        let audit = Self {
            policy_file: path(values, "audit-policy-file"),
            log_path: path(values, "audit-log-path"),
            max_size: number("audit-log-maxsize")?,
            max_backups: number("audit-log-maxbackup")?,
            max_age: number("audit-log-maxage")?,
            compress: switch(values, "audit-log-compress")?,
            format: one_of(values, "audit-log-format", &["json", "legacy"])?,
            mode: one_of(values, "audit-log-mode", &MODES)?,
            buffer: number("audit-log-batch-buffer-size")?,
            truncate: TruncateArguments::from_values(values, "audit-log")?,
            webhook: AuditWebhookArguments::from_values(values)?,
        };
        // Who gives one of them counts on a log.
        if audit.policy_file.is_some() != (audit.log_path.is_some() || audit.webhook.is_some()) {
            return Err(values.bad(
                FLAG,
                "audit-policy-file takes audit-log-path or audit-webhook-config-file, and they take it: one alone logs \
                 nothing",
            ));
        }
        Ok(audit)
    }
}

impl AuditWebhookArguments {
    fn from_values(values: &Values) -> Result<Option<Self>, Error> {
        let Some(config_file) = path(values, "audit-webhook-config-file") else { return Ok(None) };
        let number = |name: &str| values.argument(FLAG, name, types::number);
        let rate = |text: &str| match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
            _ => Err("expected a number above 0".to_owned()),
        };
        let duration = |name: &str| values.argument(FLAG, name, types::duration);
        Ok(Some(Self {
            config_file,
            mode: one_of(values, "audit-webhook-mode", &MODES)?,
            buffer: number("audit-webhook-batch-buffer-size")?,
            max_batch: number("audit-webhook-batch-max-size")?,
            max_wait: duration("audit-webhook-batch-max-wait")?,
            throttle: switch(values, "audit-webhook-batch-throttle-enable")?,
            qps: values.argument(FLAG, "audit-webhook-batch-throttle-qps", rate)?,
            burst: number("audit-webhook-batch-throttle-burst")?,
            initial_backoff: duration("audit-webhook-initial-backoff")?,
            truncate: TruncateArguments::from_values(values, "audit-webhook")?,
        }))
    }
}

impl TruncateArguments {
    /// `None`: nothing is truncated.
    fn from_values(values: &Values, of: &str) -> Result<Option<Self>, Error> {
        if !switch(values, &format!("{of}-truncate-enabled"))?.unwrap_or(false) {
            return Ok(None);
        }
        let number = |name: &str| values.argument(FLAG, &format!("{of}-truncate-{name}"), types::number);
        Ok(Some(Self { max_event_size: number("max-event-size")?, max_batch_size: number("max-batch-size")? }))
    }
}
