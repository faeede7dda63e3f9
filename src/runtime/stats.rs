//! Usage of containers: from their cgroup where there is one, else summed up over their processes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use k3s_cri::Stats;

use crate::shim::clock;

/// Usage of the processes in a cgroup.
pub(crate) fn of_cgroup(cgroup: &Path) -> io::Result<Stats> {
    let read = |file: &str| std::fs::read_to_string(cgroup.join(file));
    let field = |text: &str, name: &str| {
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok());
        value.unwrap_or(0)
    };
    let memory_stat = read("memory.stat")?;
    let memory: u64 = read("memory.current")?.trim().parse().unwrap_or(0);
    let processes = read("cgroup.procs")?.lines().count() as u64;
    Ok(Stats {
        timestamp: clock::now(),
        cpu_nanos: field(&read("cpu.stat")?, "usage_usec") * 1000,
        // As cAdvisor: what the kernel could take back at once is not needed.
        memory_working_set: memory.saturating_sub(field(&memory_stat, "inactive_file")),
        memory_rss: field(&memory_stat, "anon"),
        processes,
    })
}

/// Usage of the processes that share the mount namespace of `pid`, which each container has of its own.
pub(crate) fn of_processes(pid: i32) -> io::Result<Stats> {
    let namespace = |pid: &str| Ok::<_, io::Error>(std::fs::metadata(format!("/proc/{pid}/ns/mnt"))?.ino());
    let wanted = namespace(&pid.to_string())?;
    let mut stats = Stats { timestamp: clock::now(), ..Stats::default() };
    let page = rustix::param::page_size() as u64;
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        if namespace(name).ok() != Some(wanted) {
            continue;
        }
        // Processes that end meanwhile count as ended.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{name}/stat")) else { continue };
        let Ok(statm) = std::fs::read_to_string(format!("/proc/{name}/statm")) else { continue };
        stats.processes += 1;
        stats.cpu_nanos += cpu_ticks(&stat) * tick;
        let mut pages = statm.split_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        stats.memory_working_set += resident * page;
        stats.memory_rss += resident.saturating_sub(shared) * page;
    }
    Ok(stats)
}

/// User and system time of a process and of its children that have ended (fields 14 to 17 of `/proc/<pid>/stat`).
fn cpu_ticks(stat: &str) -> u64 {
    // The command's name is in parentheses and may contain anything.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    fields.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_itself() {
        let stats = of_processes(std::process::id() as i32).unwrap();
        assert!(stats.processes >= 1);
        assert!(stats.memory_working_set >= 100_000);
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        assert_eq!(cpu_ticks("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"), 11 + 12 + 13 + 14);
    }
}
