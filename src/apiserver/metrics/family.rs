//! Counters and histograms by their labels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// A metric: name, type, what it means, and its values by labels.
pub(crate) type Metric = (&'static str, &'static str, &'static str, Vec<(String, f64)>);

/// Counters by their labels, which are written as in `a="x",b="y"`.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<String, u64>>);

impl Counters {
    /// One more.
    pub fn count(&self, labels: String) {
        *self.0.lock().entry(labels).or_default() += 1;
    }

    /// The values, as `/metrics` writes them.
    pub fn samples(&self) -> Vec<(String, f64)> {
        self.0.lock().iter().map(|(labels, count)| (format!("{{{labels}}}"), *count as f64)).collect()
    }
}

/// How often something took how long.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// In seconds.
    bounds: &'static [f64],
    /// One more than there are bounds.
    buckets: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// With these bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, nanoseconds: AtomicU64::new(0) }
    }

    /// It took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Whether nothing has been observed.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.load(Ordering::Relaxed) == 0)
    }

    /// Adds its values under these labels, as `/metrics` writes them.
    pub fn write(&self, labels: &str, samples: &mut Vec<(String, f64)>) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = self.bounds.get(index).map_or("+Inf".to_owned(), f64::to_string);
            samples.push((format!("_bucket{{{labels},le=\"{bound}\"}}"), count as f64));
        }
        let seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        samples.push((format!("_sum{{{labels}}}"), seconds));
        samples.push((format!("_count{{{labels}}}"), count as f64));
    }
}

/// Histograms by labels.
#[derive(Debug)]
pub(crate) struct Histograms {
    /// In seconds.
    bounds: &'static [f64],
    of: Mutex<BTreeMap<String, Histogram>>,
}

impl Histograms {
    /// With these bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, of: Mutex::default() }
    }

    /// It took so long.
    pub fn observe(&self, labels: String, took: Duration) {
        self.of.lock().entry(labels).or_insert_with(|| Histogram::new(self.bounds)).observe(took);
    }

    /// The values, as `/metrics` writes them.
    pub fn samples(&self) -> Vec<(String, f64)> {
        let mut samples = Vec::new();
        for (labels, histogram) in self.of.lock().iter() {
            histogram.write(labels, &mut samples);
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_by_their_labels() {
        let counters = Counters::default();
        for labels in ["a=\"x\"", "a=\"y\"", "a=\"x\""] {
            counters.count(labels.to_owned());
        }
        assert_eq!(counters.samples(), [("{a=\"x\"}".to_owned(), 2.0), ("{a=\"y\"}".to_owned(), 1.0)]);
        let histograms = Histograms::new(&[0.1, 1.0]);
        for millis in [50, 500, 5000] {
            histograms.observe("a=\"x\"".to_owned(), Duration::from_millis(millis));
        }
        let values: Vec<f64> = histograms.samples().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [1.0, 2.0, 3.0, 5.55, 3.0]);
        assert_eq!(histograms.samples()[1].0, "_bucket{a=\"x\",le=\"1\"}");
    }
}
