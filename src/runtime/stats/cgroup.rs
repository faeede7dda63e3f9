//! What a cgroup (v2) tells of the processes in it.

use std::io;
use std::path::Path;

use k3s_cri::Stats;

use super::{field, number};
use crate::shim::clock;

/// Usage of the processes in a cgroup and below it. An error where the cpu or memory controller is missing.
pub(super) fn usage(cgroup: &Path) -> io::Result<Stats> {
    let read = |file: &str| std::fs::read_to_string(cgroup.join(file));
    let micros = |text: &str, name: &str| field(text, name).unwrap_or(0) * 1000;
    let memory_stat = read("memory.stat")?;
    let memory = |name: &str| field(&memory_stat, name).unwrap_or(0);
    let memory_usage: u64 = read("memory.current")?.trim().parse().unwrap_or(0);
    // As cAdvisor: what the kernel could take back at once is not needed.
    let working_set = memory_usage.saturating_sub(memory("inactive_file"));
    let cpu = read("cpu.stat")?;
    // Swap is a controller's file, too, but a kernel may be without swap accounting.
    let swap_usage = number(&cgroup.join("memory.swap.current"));
    let io = read("io.stat").unwrap_or_default();
    Ok(Stats {
        timestamp: clock::now(),
        cpu_nanos: micros(&cpu, "usage_usec"),
        cpu_user_nanos: micros(&cpu, "user_usec"),
        cpu_system_nanos: micros(&cpu, "system_usec"),
        cpu_periods: field(&cpu, "nr_periods").unwrap_or(0),
        cpu_throttled_periods: field(&cpu, "nr_throttled").unwrap_or(0),
        cpu_throttled_nanos: micros(&cpu, "throttled_usec"),
        cpu_nano_cores: None,
        memory_usage,
        memory_working_set: working_set,
        memory_rss: memory("anon"),
        memory_cache: memory("file"),
        memory_mapped_file: memory("file_mapped"),
        memory_available: number(&cgroup.join("memory.max")).map(|limit| limit.saturating_sub(working_set)),
        page_faults: memory("pgfault"),
        major_page_faults: memory("pgmajfault"),
        swap_available: number(&cgroup.join("memory.swap.max"))
            .map(|limit| limit.saturating_sub(swap_usage.unwrap_or(0))),
        swap_usage,
        oom_kills: read("memory.events").ok().and_then(|events| field(&events, "oom_kill")).unwrap_or(0),
        read_bytes: device_sum(&io, "rbytes="),
        written_bytes: device_sum(&io, "wbytes="),
        processes: processes(cgroup)?,
        writable_layer: None,
    })
}

/// A value of `io.stat`, added up over the devices.
fn device_sum(io: &str, name: &str) -> u64 {
    io.split_whitespace().filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok()).sum()
}

/// Processes in a cgroup and those below it.
fn processes(cgroup: &Path) -> io::Result<u64> {
    let mut count = std::fs::read_to_string(cgroup.join("cgroup.procs"))?.lines().count() as u64;
    for entry in std::fs::read_dir(cgroup)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // One that is gone by now has none.
            count += processes(&entry.path()).unwrap_or(0);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroups_files_become_usage() {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
            ),
            ("memory.stat", "anon 1000\nfile 500\nfile_mapped 50\ninactive_file 300\npgfault 9\npgmajfault 1\n"),
            ("memory.current", "2000\n"),
            ("memory.max", "5000\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "max\n"),
            ("memory.events", "low 0\noom 2\noom_kill 1\n"),
            ("io.stat", "254:0 rbytes=100 wbytes=7 rios=1\n8:0 rbytes=1 wbytes=2\n"),
            ("cgroup.procs", "1\n2\n"),
        ] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        std::fs::create_dir(directory.path().join("below")).unwrap();
        std::fs::write(directory.path().join("below/cgroup.procs"), "3\n").unwrap();
        let got = usage(directory.path()).unwrap();
        let want = Stats {
            timestamp: got.timestamp,
            cpu_nanos: 30_000,
            cpu_user_nanos: 20_000,
            cpu_system_nanos: 10_000,
            cpu_periods: 5,
            cpu_throttled_periods: 2,
            cpu_throttled_nanos: 7000,
            cpu_nano_cores: None,
            memory_usage: 2000,
            memory_working_set: 1700,
            memory_rss: 1000,
            memory_cache: 500,
            memory_mapped_file: 50,
            memory_available: Some(3300),
            page_faults: 9,
            major_page_faults: 1,
            swap_usage: Some(10),
            swap_available: None,
            oom_kills: 1,
            read_bytes: 101,
            written_bytes: 9,
            processes: 3,
            writable_layer: None,
        };
        assert_eq!(got, want);
    }
}
