//! Counters and histograms by their labels.

use std::collections::BTreeMap;
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

/// How often something took how long, by labels.
#[derive(Debug)]
pub(crate) struct Histograms {
    /// In seconds.
    bounds: &'static [f64],
    of: Mutex<BTreeMap<String, Histogram>>,
}

#[derive(Debug)]
struct Histogram {
    /// One more than there are bounds.
    buckets: Box<[u64]>,
    seconds: f64,
}

impl Histograms {
    /// With these bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, of: Mutex::default() }
    }

    /// It took so long.
    pub fn observe(&self, labels: String, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        let mut of = self.of.lock();
        let empty = || Histogram { buckets: vec![0; self.bounds.len() + 1].into(), seconds: 0.0 };
        let histogram = of.entry(labels).or_insert_with(empty);
        histogram.buckets[bucket] += 1;
        histogram.seconds += seconds;
    }

    /// The values, as `/metrics` writes them.
    pub fn samples(&self) -> Vec<(String, f64)> {
        let mut samples = Vec::new();
        for (labels, histogram) in self.of.lock().iter() {
            let mut count = 0;
            for (index, bucket) in histogram.buckets.iter().enumerate() {
                count += bucket;
                let bound = self.bounds.get(index).map_or("+Inf".to_owned(), f64::to_string);
                samples.push((format!("_bucket{{{labels},le=\"{bound}\"}}"), count as f64));
            }
            samples.push((format!("_sum{{{labels}}}"), histogram.seconds));
            samples.push((format!("_count{{{labels}}}"), count as f64));
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
