//! Usage where there are no cgroups, or none that count: added up over processes, by the mount namespace that each
//! container has of its own.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k3s_cri::Stats;
use parking_lot::Mutex;

use crate::shim::clock;

/// For how long all who ask are told of one look at `/proc`: it costs as much for all containers as for one.
const SHARED: Duration = Duration::from_millis(250);

type ByNamespace = HashMap<u64, Stats>;

/// The machine's processes, as they were a moment ago.
#[derive(Default)]
pub(crate) struct Processes(Mutex<Option<(Instant, Arc<ByNamespace>)>>);

impl Processes {
    /// Usage of a container, by a process of it.
    pub(super) fn of_container(&self, pid: i32) -> io::Result<Stats> {
        let wanted = mount_namespace(&pid.to_string())?;
        // Held while looking: who asks meanwhile is told of the same look.
        let mut last = self.0.lock();
        let recent = last.as_ref().filter(|(at, _)| at.elapsed() < SHARED).map(|(_, look)| look.clone());
        // A container that has just begun is not in it.
        let look = match recent.filter(|look| look.contains_key(&wanted)) {
            Some(look) => look,
            None => last.insert((Instant::now(), Arc::new(look()?))).1.clone(),
        };
        look.get(&wanted).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }
}

fn mount_namespace(pid: &str) -> io::Result<u64> {
    Ok(std::fs::metadata(format!("/proc/{pid}/ns/mnt"))?.ino())
}

fn look() -> io::Result<ByNamespace> {
    let timestamp = clock::now();
    let mut all = ByNamespace::new();
    let own = mount_namespace("self")?;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        // Processes that end meanwhile count as ended. Those of this process's own are in no container.
        let Some(namespace) = mount_namespace(name).ok().filter(|namespace| *namespace != own) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{name}/stat")) else { continue };
        let Ok(statm) = std::fs::read_to_string(format!("/proc/{name}/statm")) else { continue };
        let stats = all.entry(namespace).or_insert_with(|| Stats { timestamp, ..Stats::default() });
        add(stats, &stat, &statm);
    }
    Ok(all)
}

/// Adds a process's usage, as `/proc/<pid>/stat` and `statm` tell it.
fn add(stats: &mut Stats, stat: &str, statm: &str) {
    let page = rustix::param::page_size() as u64;
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let field = field_of(stat);
    // User and system time of the process, and of its children that have ended (fields 14 to 17).
    let (user, system) = (field(14) + field(16), field(15) + field(17));
    stats.processes += 1;
    stats.cpu_user_nanos += user * tick;
    stats.cpu_system_nanos += system * tick;
    stats.cpu_nanos += (user + system) * tick;
    stats.page_faults += field(10);
    stats.major_page_faults += field(12);
    let mut pages = statm.split_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    stats.memory_usage += resident * page;
    stats.memory_working_set += resident * page;
    stats.memory_rss += resident.saturating_sub(shared) * page;
    stats.memory_mapped_file += shared * page;
}

/// Fields of `/proc/<pid>/stat` by their numbers in proc(5).
fn field_of(stat: &str) -> impl Fn(usize) -> u64 {
    // The command's name is in parentheses and may contain anything.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let fields: Vec<u64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    move |number| fields.get(number - 3).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let field = field_of("12 (a) b) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18");
        assert_eq!((field(4), field(14), field(17)), (4, 14, 17));
    }

    #[test]
    fn processes_are_added_up() {
        let mut stats = Stats::default();
        let stat = "12 (sh) S 4 5 6 7 8 9 100 11 3 13 1 2 3 4 18";
        add(&mut stats, stat, "50 20 5 0 0 0 0");
        add(&mut stats, stat, "50 20 5 0 0 0 0");
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let page = rustix::param::page_size() as u64;
        assert_eq!((stats.processes, stats.page_faults, stats.major_page_faults), (2, 200, 6));
        assert_eq!((stats.cpu_user_nanos, stats.cpu_nanos), (8 * tick, 20 * tick));
        assert_eq!((stats.memory_usage, stats.memory_rss), (40 * page, 30 * page));
    }
}
