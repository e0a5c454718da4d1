//! Two rounds of those that change objects: whatever changed one in the first may be reason for others to look again.

use std::collections::BTreeSet;

use serde_json::Value;

/// Who changes objects: configuration and webhook, or policy, binding and parameters.
pub(crate) type Key = (String, String, String);

/// What one round leaves for the next; there are two at most.
#[derive(Default)]
pub(crate) struct Rounds {
    pub is_second: bool,
    /// True once somebody changed the object: built-in plugins, and those that want to, look again.
    pub changed: bool,
    /// Those that want to look again when something changes after them.
    eligible: BTreeSet<Key>,
    /// Those that something changed after.
    again: BTreeSet<Key>,
    /// The object as the first round left it; kept where somebody may want to look again.
    left: Option<Value>,
}

impl Rounds {
    /// True where one has its turn.
    pub fn has_turn(&self, key: &Key) -> bool {
        !self.is_second || self.again.contains(key)
    }

    /// The object was changed: everybody that was eligible has something to look at again.
    pub fn change(&mut self) {
        self.changed = true;
        self.again.append(&mut self.eligible);
    }

    pub fn wants_again(&mut self, key: Key) {
        self.eligible.insert(key);
    }

    /// Ends a round.
    pub fn leave(&mut self, object: &Value) {
        self.left = (!self.eligible.is_empty()).then(|| object.clone());
    }

    /// Begins the second round. What others changed in between is everybody's business.
    pub fn second(&mut self, object: &Value) {
        self.is_second = true;
        if self.left.as_ref().is_some_and(|left| left != object) {
            self.again.append(&mut self.eligible);
        }
    }
}
