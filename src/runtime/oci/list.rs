//! `state`, `list` and `ps`.

use std::io::Write;
use std::path::Path;

use oci_spec::runtime::ContainerState;
use serde_json::{Value, json};

use super::error::{Doing, Error};
use super::record::{Container, Process, Record};
use crate::shim::pod_processes;

/// A container as `state` and `list` show it: the specification's fields and runc's.
fn describe(container: &Container, record: &Record) -> Value {
    let status = container.status(Some(record));
    let pid = match (status, record.process) {
        (ContainerState::Created | ContainerState::Running, Some(process)) => process.pid,
        _ => 0,
    };
    let mut state = record.state(status, pid);
    state["rootfs"] = json!(record.rootfs);
    state["created"] = json!(record.created);
    state["owner"] = json!(owner(record));
    state
}

fn owner(record: &Record) -> String {
    let user = nix::unistd::User::from_uid(record.owner.into());
    user.ok().flatten().map_or_else(|| format!("#{}", record.owner), |user| user.name)
}

/// `state`: one container as JSON.
pub(super) fn state(container: &Container) -> Result<(), Error> {
    let record = container.record()?.ok_or_else(|| Error::Unknown(container.id.clone()))?;
    print(&format!("{:#}\n", describe(container, &record)))
}

/// `list`: all containers as a table, as JSON, or their names.
pub(super) fn list(root: &Path, format: &str, quiet: bool) -> Result<(), Error> {
    let mut all = Vec::new();
    for container in Container::all(root) {
        // One that goes at this moment is gone.
        if let Ok(Some(record)) = container.record() {
            all.push(describe(&container, &record));
        }
    }
    if quiet {
        let names = all.iter().filter_map(|state| state["id"].as_str());
        return print(&names.map(|id| format!("{id}\n")).collect::<String>());
    }
    if format == "json" {
        return print(&format!("{}\n", Value::from(all)));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    const COLUMNS: [&str; 6] = ["id", "pid", "status", "bundle", "created", "owner"];
    let mut rows = vec![COLUMNS.map(str::to_uppercase)];
    rows.extend(all.iter().map(|state| COLUMNS.map(|column| text(&state[column]))));
    let widths: Vec<_> =
        (0..COLUMNS.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        table += cells.collect::<Vec<_>>().join("   ").trim_end();
        table.push('\n');
    }
    print(&table)
}

/// `ps`: the processes as a JSON list of pids, or as the host's `ps` shows them.
pub(super) fn ps(container: &Container, format: &str, args: &[String]) -> Result<(), Error> {
    let record = container.record()?.ok_or_else(|| Error::Unknown(container.id.clone()))?;
    let pids: Vec<i32> = processes(&record).into_iter().map(|process| process.pid).collect();
    if format == "json" {
        return print(&format!("{}\n", json!(pids)));
    }
    let default = ["-ef".to_owned()];
    let args = if args.is_empty() { &default[..] } else { args };
    let output = std::process::Command::new("ps").args(args).output().doing("run ps")?;
    let table = String::from_utf8_lossy(&output.stdout);
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::Usage("ps was told to show no column PID".to_owned()))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    print(&std::iter::once(head).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect::<String>())
}

/// The processes of a container: those in its cgroup, else those that share the mount namespace of its first one.
pub(super) fn processes(record: &Record) -> Vec<Process> {
    let pids: Vec<String> = match (&record.cgroup, record.process) {
        (Some(cgroup), _) => {
            let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }
        (None, Some(process)) if record.own_mounts && process.is_alive() => of_namespace(process.pid),
        (None, Some(process)) => vec![process.pid.to_string()],
        (None, None) => Vec::new(),
    };
    let process = |pid: &String| {
        let start_time = pod_processes::start_time(pid).ok()?;
        Some(Process { pid: pid.parse().ok()?, start_time })
    };
    pids.iter().filter_map(process).collect()
}

fn of_namespace(pid: i32) -> Vec<String> {
    let Ok(wanted) = pod_processes::mount_namespace(&pid.to_string()) else { return Vec::new() };
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    names.filter(|name| pod_processes::mount_namespace(name).is_ok_and(|namespace| namespace == wanted)).collect()
}

/// Writes what was asked for; a reader that is gone is told of.
pub(super) fn print(text: &str) -> Result<(), Error> {
    std::io::stdout().write_all(text.as_bytes()).doing("write to standard output")
}
