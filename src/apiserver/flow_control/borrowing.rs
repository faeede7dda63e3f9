//! How levels lend each other seats: each has at least what it needs of its own, and what is left goes to those that need
//! more, in proportion to what they needed lately.
//!
//! Source: "Concurrency limits" of <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>.

use std::time::{Duration, Instant};

use super::level::Shares;

/// How often seats are shared out anew.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// How slowly a high demand is forgotten, per period.
const SMOOTH: f64 = 0.977;

/// How many seats a level may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Its share.
    pub nominal: u32,
    /// What it keeps for itself, though it needs none.
    pub min: u32,
    pub max: u32,
}

impl Bounds {
    /// Of a level that has `shares` of the `total` seats, where all levels have `all` shares.
    pub fn new(shares: &Shares, default: u32, all: u32, total: u32) -> Self {
        let own = shares.nominal_concurrency_shares.unwrap_or(default);
        let nominal = (f64::from(total) * f64::from(own) / f64::from(all.max(1))).ceil() as u32;
        let part = |percent: u32| (f64::from(nominal) * f64::from(percent) / 100.0).round() as u32;
        let lent = part(shares.lendable_percent.unwrap_or(0)).min(nominal);
        let max = shares.borrowing_limit_percent.map_or(total.max(nominal), |percent| nominal + part(percent));
        Self { nominal, min: nominal - lent, max }
    }
}

/// The seats that a level's requests had or waited for, over time.
#[derive(Debug)]
pub(super) struct Demand {
    now: f64,
    since: Instant,
    seconds: f64,
    sum: f64,
    squares: f64,
    high: f64,
    smooth: f64,
}

impl Demand {
    /// None yet.
    pub fn new(since: Instant) -> Self {
        Self { now: 0.0, since, seconds: 0.0, sum: 0.0, squares: 0.0, high: 0.0, smooth: 0.0 }
    }

    /// From now on it is so many.
    pub fn observe(&mut self, at: Instant, seats: u32) {
        let seconds = at.saturating_duration_since(self.since).as_secs_f64();
        self.seconds += seconds;
        self.sum += seconds * self.now;
        self.squares += seconds * self.now * self.now;
        self.since = at;
        self.now = f64::from(seats);
        self.high = self.high.max(self.now);
    }

    /// What it was in the period that ends now; another begins.
    pub fn take(&mut self, at: Instant, bounds: Bounds) -> Level {
        self.observe(at, self.now as u32);
        let average = if self.seconds > 0.0 { self.sum / self.seconds } else { self.now };
        let variance = if self.seconds > 0.0 { self.squares / self.seconds - average * average } else { 0.0 };
        let envelope = self.high.min(average + variance.max(0.0).sqrt());
        self.smooth = envelope.max(SMOOTH * self.smooth + (1.0 - SMOOTH) * envelope);
        let level = Level { bounds, high: self.high, smooth: self.smooth };
        (self.seconds, self.sum, self.squares, self.high) = (0.0, 0.0, 0.0, self.now);
        level
    }
}

/// A level when seats are shared out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub bounds: Bounds,
    /// Seats it needed at its busiest moment.
    pub high: f64,
    /// Seats it usually needs.
    pub smooth: f64,
}

impl Level {
    /// What nobody may borrow of it.
    fn own(&self) -> f64 {
        f64::from(self.bounds.min).max(f64::from(self.bounds.nominal).min(self.high))
    }

    fn at(&self, proportion: f64) -> f64 {
        let wanted = self.smooth.max(self.own()).max(1.0);
        (proportion * wanted).max(self.own()).min(f64::from(self.bounds.max).max(self.own()))
    }
}

/// How many of the `total` seats each level gets.
pub(super) fn share_out(levels: &[Level], total: u32) -> Vec<u32> {
    let total = f64::from(total);
    let sum = |proportion: f64| levels.iter().map(|level| level.at(proportion)).sum::<f64>();
    let (mut low, mut high) = (0.0, total);
    if sum(low) >= total {
        high = 0.0;
    }
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        match sum(middle) > total {
            true => high = middle,
            false => low = middle,
        }
    }
    levels.iter().map(|level| level.at(low).round() as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(nominal: u32, min: u32, max: u32, demand: f64) -> Level {
        Level { bounds: Bounds { nominal, min, max }, high: demand, smooth: demand }
    }

    #[test]
    fn shares_are_parts_of_all_seats_rounded_up() {
        let shares = Shares { lendable_percent: Some(50), borrowing_limit_percent: Some(25), ..Shares::default() };
        assert_eq!(Bounds::new(&shares, 20, 245, 600), Bounds { nominal: 49, min: 24, max: 61 });
        let shares = Shares { nominal_concurrency_shares: Some(0), ..Shares::default() };
        assert_eq!(Bounds::new(&shares, 30, 245, 600), Bounds { nominal: 0, min: 0, max: 600 });
    }

    #[test]
    fn idle_levels_lend_and_get_back_what_they_need() {
        let busy = level(100, 10, 600, 1000.0);
        assert_eq!(share_out(&[busy, level(100, 50, 600, 0.0), level(400, 400, 600, 0.0)], 600), [150, 50, 400]);
        // Whoever needs its own has it.
        assert_eq!(share_out(&[busy, level(100, 50, 600, 100.0), level(400, 400, 600, 0.0)], 600), [100, 100, 400]);
        // Nobody gets more than its limit.
        assert_eq!(share_out(&[level(100, 10, 120, 1000.0), level(500, 100, 600, 0.0)], 600)[0], 120);
    }

    #[test]
    fn a_demand_is_its_average_and_its_spread_and_fades_slowly() {
        let start = Instant::now();
        let bounds = Bounds::default();
        let mut demand = Demand::new(start);
        demand.observe(start, 10);
        demand.observe(start + Duration::from_secs(5), 0);
        let first = demand.take(start + Duration::from_secs(10), bounds);
        assert_eq!((first.high, first.smooth), (10.0, 10.0));
        let second = demand.take(start + Duration::from_secs(20), bounds);
        assert_eq!(second.high, 0.0);
        assert!(second.smooth > 9.0 && second.smooth < 10.0, "{}", second.smooth);
    }
}
