//! Flags of the kubelet.

use crate::flag::types;
use crate::{Error, Values};

const THROUGH: &str = "kubelet-arg";

/// What `--kubelet-arg` says; nothing: the kubelet's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeletArguments {
    pub max_pods: Option<u32>,
    pub seccomp_default: Option<bool>,
    /// Bytes.
    pub container_log_max_size: Option<u64>,
    pub container_log_max_files: Option<usize>,
}

impl KubeletArguments {
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        let files = |text: &str| match types::number(text)? {
            0 | 1 => Err("expected 2 or more".to_owned()),
            files => Ok(files as usize),
        };
        Ok(Self {
            max_pods: values.argument(THROUGH, "max-pods", types::number)?,
            seccomp_default: values.argument(THROUGH, "seccomp-default", types::boolean)?,
            container_log_max_size: values.argument(THROUGH, "container-log-max-size", types::bytes)?,
            container_log_max_files: values.argument(THROUGH, "container-log-max-files", files)?,
        })
    }
}
