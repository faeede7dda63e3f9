//! What must not be collected as garbage, though no image names it yet: content of images on their way in.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many hold each digest (of a blob or of a layer's content).
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<String, usize>>);

/// Keeps digests for as long as it lives.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    digests: Vec<String>,
}

impl Leases {
    pub(super) fn begin(self: &Arc<Self>) -> Lease {
        Lease { leases: self.clone(), digests: Vec::new() }
    }

    pub(super) fn held(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

impl Lease {
    pub(super) fn add(&mut self, digest: &str) {
        *self.leases.0.lock().entry(digest.to_owned()).or_default() += 1;
        self.digests.push(digest.to_owned());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.0.lock();
        for digest in &self.digests {
            if let Some(count) = held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    held.remove(digest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_held_until_the_last_lease_ends() {
        let leases = Arc::new(Leases::default());
        let (mut one, mut two) = (leases.begin(), leases.begin());
        one.add("a");
        two.add("a");
        drop(one);
        assert_eq!(leases.held(), ["a"]);
        drop(two);
        assert!(leases.held().is_empty());
    }
}
