//! What there is to run. A command's own flags are made when it is run: that takes longer than all the rest of a start.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{agent, check_config, completion, coredns, cri_tools, kine, kubectl, server};

/// A subcommand.
pub struct Command {
    pub name: &'static str,
    pub about: &'static str,
    /// Takes what stands after the name.
    pub run: fn(Vec<OsString>) -> ExitCode,
}

const fn command(name: &'static str, about: &'static str, run: fn(Vec<OsString>) -> ExitCode) -> Command {
    Command { name, about, run }
}

/// Every command, in the order of the help.
pub static COMMANDS: &[Command] = &[
    command("server", "Run a Kubernetes server with a node of its own", server::run),
    command("agent", "Run a node that joins a cluster (not available in this version)", agent::run),
    command("kubectl", "Run kubectl", kubectl::run),
    command("crictl", "Look at the pods, containers and images of this node", cri_tools::crictl),
    command("ctr", "List, pull, import and export the images of this node", cri_tools::ctr),
    command("oci", "Run containers from OCI bundles, with runc's command line", oci),
    command(
        "check-config",
        "Say whether this host has what k3s needs, and how to mend what it lacks",
        check_config::run,
    ),
    command("completion", "Print a completion script: bash, zsh or fish", completion::run),
    command("kine", "Run the datastore alone, with etcd's interface", kine::run),
    command("coredns", "Run the cluster's DNS server (inside its pod)", coredns::run),
];

/// Commands of k3s that do not exist yet.
pub static MISSING: &[&str] = &["token", "etcd-snapshot", "secrets-encrypt", "certificate", "containerd"];

/// Names under which a link to the binary is the command of that name.
pub static LINKS: &[&str] = &["kubectl", "crictl", "ctr"];

/// Names under which a link to the binary is `k3s oci`, for programs that want the path of an OCI runtime.
pub static OCI_LINKS: &[&str] = &["runc", "k3s-oci"];

fn oci(args: Vec<OsString>) -> ExitCode {
    k3s_runtime::oci::main(args.into_iter())
}

/// The text of `k3s --help`.
pub fn usage() -> String {
    let mut text = "k3s - Kubernetes, attached to nothing\n\nUsage: k3s <command> [options]\n\nCommands:\n".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<13} {}\n", command.name, command.about));
    }
    text.push_str("\nOptions, before the command:\n  --debug                Turn on debug logs\n  -d, --data-dir FOLDER  Folder to hold state\n\
         -h, --help             Show help\n  -v, --version          Show the version\n");
    text
}
