//! `k3s crictl` and `k3s ctr`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::kubectl;

/// Runs crictl.
pub fn crictl(args: Vec<OsString>) -> ExitCode {
    kubectl::on_one_thread(k3s_cri_tools::crictl(args))
}

/// Runs ctr.
pub fn ctr(args: Vec<OsString>) -> ExitCode {
    kubectl::on_one_thread(k3s_cri_tools::ctr(args))
}
