//! Tokens whose signatures have been checked: that is most of the work of a request, and clients send the same token
//! with every one.
//!
//! Only the signature is remembered. Whether a token has expired, and whether what it is bound to is still there, is
//! asked anew each time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Tokens in a generation; two are kept.
const GENERATION: usize = 512;

type Claims = HashMap<[u8; 32], Arc<Value>>;

/// The claims of tokens that were seen lately, by the tokens' digests, so that none can be read from memory.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: Claims,
    /// What is not asked for as long as it is here is forgotten.
    old: Claims,
}

impl Verified {
    /// The claims of a token, if it is known that its signature is good.
    pub fn get(&self, token: &str) -> Option<Arc<Value>> {
        let key = key(token);
        let mut generations = self.0.lock();
        if let Some(claims) = generations.young.get(&key) {
            return Some(Arc::clone(claims));
        }
        let claims = generations.old.remove(&key)?;
        generations.insert(key, Arc::clone(&claims));
        Some(claims)
    }

    /// Remembers that a token's signature is good.
    pub fn insert(&self, token: &str, claims: &Arc<Value>) {
        self.0.lock().insert(key(token), Arc::clone(claims));
    }
}

impl Generations {
    fn insert(&mut self, key: [u8; 32], claims: Arc<Value>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, claims);
    }
}

fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_is_forgotten() {
        let verified = Verified::default();
        let claims = Arc::new(json!({"sub": "app"}));
        verified.insert("used", &claims);
        verified.insert("unused", &claims);
        for n in 0..4 * GENERATION {
            verified.insert(&format!("other-{n}"), &claims);
            assert_eq!(verified.get("used").as_deref(), Some(&*claims), "after {n} others");
        }
        assert_eq!(verified.get("unused"), None);
        let generations = verified.0.lock();
        assert!(generations.young.len() <= GENERATION && generations.old.len() <= GENERATION);
    }

    #[test]
    fn another_token_is_not_known() {
        let verified = Verified::default();
        verified.insert("token", &Arc::new(json!({})));
        assert_eq!(verified.get("token "), None);
    }
}
