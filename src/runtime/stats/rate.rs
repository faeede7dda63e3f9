//! CPU time per second, out of CPU time since ever.

use k3s_cri::Nanos;

/// The shortest time over which a rate means something.
const LEAST: Nanos = 1_000_000_000;

/// A container's rate, from one look at it to the next.
#[derive(Debug, Default)]
pub(crate) struct CpuRate {
    since: Option<(Nanos, u64)>,
    rate: Option<u64>,
}

impl CpuRate {
    /// The rate in nanoseconds per second, given how much has been used by now; `None` until it was looked at twice.
    pub(crate) fn next(&mut self, now: Nanos, used: u64) -> Option<u64> {
        match self.since {
            Some((then, before)) if now - then >= LEAST => {
                let nanos =
                    u128::from(used.saturating_sub(before)) * 1_000_000_000 / (now - then).unsigned_abs() as u128;
                self.rate = u64::try_from(nanos).ok();
                self.since = Some((now, used));
            }
            // Too early to tell anything new.
            Some(_) => {}
            None => self.since = Some((now, used)),
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_takes_two_looks_that_are_apart() {
        let mut rate = CpuRate::default();
        assert_eq!(rate.next(1_000_000_000, 500), None);
        assert_eq!(rate.next(1_500_000_000, 900), None);
        assert_eq!(rate.next(3_000_000_000, 1_000_000_500), Some(500_000_000));
        assert_eq!(rate.next(3_100_000_000, 1_000_000_900), Some(500_000_000));
    }
}
