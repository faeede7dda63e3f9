//! How much is logged, and where to.

use std::path::PathBuf;

use super::Variables;
use crate::flag::types;
use crate::{Error, Values};

/// How a line of the log looks (`K3S_LOG_FORMAT`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// The variable's value.
    ///
    /// # Errors
    /// [`Error::BadValue`] if it is neither `text` nor `json`.
    pub fn from_variable(value: Option<String>) -> Result<Self, Error> {
        match value.as_deref() {
            None | Some("" | "text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(other) => Err(Error::BadValue {
                origin: "K3S_LOG_FORMAT".to_owned(),
                value: other.to_owned(),
                detail: "expected text or json".to_owned(),
            }),
        }
    }
}

/// Logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logging {
    pub debug: bool,
    /// klog's level: 0 is info, 4 and above are debug.
    pub verbosity: u32,
    /// Nothing: standard error.
    pub file: Option<PathBuf>,
    /// Standard error besides the file.
    pub also_stderr: bool,
    pub format: LogFormat,
}

impl Logging {
    pub(super) fn from_values(values: &Values, variables: Variables<'_>) -> Result<Self, Error> {
        Ok(Self {
            debug: values.switch("debug")?,
            verbosity: values.parse("v", types::number)?.unwrap_or(0),
            file: values.string("log").map(PathBuf::from),
            also_stderr: values.switch("alsologtostderr")?,
            format: LogFormat::from_variable(variables("K3S_LOG_FORMAT"))?,
        })
    }
}
