//! What a webhook said lately, by its question.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::authorization::Decision;

/// Answers that are remembered, as in Kubernetes.
const REMEMBERED: usize = 8192;
/// Longer questions are asked anew each time: users choose much of what stands in them.
const LONGEST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<String, (Instant, Decision)>>);

impl Known {
    /// The answer, if it still holds.
    pub fn get(&self, question: &str) -> Option<Decision> {
        let known = self.0.lock();
        let (until, decision) = known.get(question)?;
        (Instant::now() < *until).then(|| decision.clone())
    }

    /// Keeps an answer for so long.
    pub fn keep(&self, question: String, decision: &Decision, ttl: Duration) {
        if ttl.is_zero() || question.len() > LONGEST {
            return;
        }
        let now = Instant::now();
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, (until, _)| now < *until);
        }
        // Somebody asks for one thing after the other; what is asked for all the time is soon known again.
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(question, (now + ttl, decision.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_hold_for_a_while_and_no_longer() {
        let known = Known::default();
        known.keep("a".to_owned(), &Decision::allow("yes"), Duration::from_secs(600));
        known.keep("b".to_owned(), &Decision::allow("yes"), Duration::from_nanos(1));
        known.keep("c".to_owned(), &Decision::none("no"), Duration::ZERO);
        known.keep("d".repeat(LONGEST + 1), &Decision::allow("yes"), Duration::from_secs(600));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(known.get("a"), Some(Decision::allow("yes")));
        assert_eq!((known.get("b"), known.get("c"), known.get(&"d".repeat(LONGEST + 1))), (None, None, None));
    }

    #[test]
    fn there_are_never_more_than_fit() {
        let known = Known::default();
        for number in 0..REMEMBERED * 2 + 1 {
            known.keep(number.to_string(), &Decision::allow(""), Duration::from_secs(600));
        }
        assert!(known.0.lock().len() <= REMEMBERED);
        assert!(known.get(&(REMEMBERED * 2).to_string()).is_some());
    }
}
