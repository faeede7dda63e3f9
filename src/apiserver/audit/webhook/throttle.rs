//! How often something is delivered.

use std::time::Duration;

use tokio::time::Instant;

/// `--audit-webhook-batch-throttle-*`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    /// Deliveries per second, on average.
    pub qps: f64,
    /// Deliveries at once, after a quiet time.
    pub burst: u32,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    throttle: Throttle,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(throttle: Throttle) -> Self {
        Self { throttle, tokens: throttle.burst.into(), filled: Instant::now() }
    }

    /// Waits for the next delivery's turn.
    pub async fn take(&mut self) {
        tokio::time::sleep(self.pause(Instant::now())).await;
    }

    /// How long the next delivery has to wait.
    fn pause(&mut self, now: Instant) -> Duration {
        let since = now.duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + since * self.throttle.qps).min(self.throttle.burst.max(1).into()) - 1.0;
        if self.tokens >= 0.0 || self.throttle.qps <= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.tokens / self.throttle.qps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_only_so_many_a_second() {
        let mut bucket = Bucket::new(Throttle { qps: 10.0, burst: 5 });
        let mut now = bucket.filled;
        let mut take = |now: &mut Instant| {
            let pause = bucket.pause(*now);
            *now += pause;
            pause
        };
        for _ in 0..5 {
            assert_eq!(take(&mut now), Duration::ZERO);
        }
        let begin = now;
        for _ in 0..10 {
            take(&mut now);
        }
        assert!((now - begin).abs_diff(Duration::from_secs(1)) < Duration::from_millis(1), "{:?}", now - begin);
        now += Duration::from_secs(60);
        for _ in 0..5 {
            assert_eq!(take(&mut now), Duration::ZERO);
        }
        assert!(take(&mut now).abs_diff(Duration::from_millis(100)) < Duration::from_millis(1));
    }
}
