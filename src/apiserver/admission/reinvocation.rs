//! The second round of mutating admission: what changes an object late may give the others something to do.
//!
//! When a webhook or a policy has changed the object, the whole chain runs once more. In that round those webhooks and
//! policies run again that want to (`reinvocationPolicy: IfNeeded`) and that the object has been changed after.

use std::collections::BTreeSet;

use serde_json::Value;

/// What the rounds of one request have to know of each other.
#[derive(Debug, Default)]
pub struct Reinvocation {
    is_second: bool,
    wanted: bool,
    pub webhooks: Calls,
    pub policies: Calls,
}

/// Who has been called, of webhooks or of policies.
#[derive(Debug, Default)]
pub struct Calls {
    /// Called, and willing to be called again, since the object was changed last.
    called: BTreeSet<String>,
    /// To be called again.
    again: BTreeSet<String>,
    /// The object as they left it.
    output: Option<Value>,
}

impl Reinvocation {
    /// Whether the chain is to run again; it does so once.
    pub fn begin_second(&mut self) -> bool {
        self.is_second = std::mem::take(&mut self.wanted) && !self.is_second;
        self.is_second
    }

    /// Whether this is the second round.
    pub fn is_second(&self) -> bool {
        self.is_second
    }

    /// The chain is to run again.
    pub fn want(&mut self) {
        self.wanted = true;
    }
}

impl Calls {
    /// Begins a round with the object as others have left it.
    pub fn begin(&mut self, is_second: bool, object: &Value) {
        if is_second && self.output.as_ref().is_some_and(|output| output != object) {
            self.changed();
        }
    }

    /// Ends a round.
    pub fn end(&mut self, object: &Value) {
        self.output = Some(object.clone());
    }

    /// Whether this one is to be called in a second round.
    pub fn is_due(&self, id: &str) -> bool {
        self.again.contains(id)
    }

    /// The object was changed: those that were called before, and are willing, are due.
    pub fn changed(&mut self) {
        self.again.append(&mut self.called);
    }

    /// This one was called, and is willing to be called again.
    pub fn note(&mut self, id: &str) {
        self.called.insert(id.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_chain_runs_again_once() {
        let mut rounds = Reinvocation::default();
        assert!(!rounds.begin_second());
        rounds.want();
        assert!(rounds.begin_second());
        rounds.want();
        assert!(!rounds.begin_second());
    }

    #[test]
    fn who_is_called_before_a_change_is_due_and_who_makes_it_is_not() {
        let mut calls = Calls::default();
        calls.note("first");
        calls.changed();
        calls.note("second");
        calls.end(&json!(1));
        calls.begin(true, &json!(1));
        assert!(calls.is_due("first") && !calls.is_due("second"));
        calls.begin(true, &json!(2));
        assert!(calls.is_due("second"));
    }
}
