//! What went over a pod's network interfaces.

use std::io;

/// Counts of an interface, from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub name: String,
    pub received: Counts,
    pub sent: Counts,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// The interfaces in the network namespace of a process, without the loopback.
pub(super) fn interfaces(pid: i32) -> io::Result<Vec<Interface>> {
    Ok(parse(&std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?))
}

/// Lines `name: bytes packets errs drop fifo frame compressed multicast` and the same eight for what was sent.
fn parse(table: &str) -> Vec<Interface> {
    let line = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().filter_map(|count| count.parse().ok()).collect();
        let direction = |first: usize| {
            let [bytes, packets, errors, dropped] = counts.get(first..first + 4)?.try_into().ok()?;
            Some(Counts { bytes, packets, errors, dropped })
        };
        Some(Interface { name: name.trim().to_owned(), received: direction(0)?, sent: direction(8)? })
    };
    table.lines().filter_map(line).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
            eth0: 1500      10    2    1    0     0          0         0      700       5    4    3    0     0       0          0\n";
        let want = Interface {
            name: "eth0".into(),
            received: Counts { bytes: 1500, packets: 10, errors: 2, dropped: 1 },
            sent: Counts { bytes: 700, packets: 5, errors: 4, dropped: 3 },
        };
        assert_eq!(parse(table), [want]);
    }
}
