//! The order of a merged list: elements of the patch as the patch has them, the others as they stood.

use std::collections::HashMap;

use serde_json::Value;

/// What makes two elements the same one: the merge key, or for scalars the value.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    pub merge_key: Option<&'a str>,
}

impl Identity<'_> {
    /// Text that is equal for equal elements only; `None` for an object without its key.
    pub fn of(self, item: &Value) -> Option<String> {
        match self.merge_key {
            Some(key) if item.is_object() => item.get(key).map(Value::to_string),
            _ => Some(item.to_string()),
        }
    }

    /// Where each element first stands. Lists come from clients and may be long: no search through them for each item.
    pub fn positions(self, list: &[Value]) -> HashMap<String, usize> {
        let keyed = list.iter().enumerate().rev();
        keyed.filter_map(|(at, item)| Some((self.of(item)?, at))).collect()
    }
}

/// Sorts `items`: those in `wanted` in its order, the rest in the order of `before`, and the two woven together as
/// they stood in `before`.
pub(super) fn arrange(items: Vec<Value>, wanted: &[Value], before: &[Value], identity: Identity<'_>) -> Vec<Value> {
    let (wanted, before) = (identity.positions(wanted), identity.positions(before));
    let (mut named, mut others): (Vec<_>, Vec<_>) = items
        .into_iter()
        .map(|item| {
            let key = identity.of(&item);
            let place = |list: &HashMap<String, usize>| key.as_ref().and_then(|key| list.get(key).copied());
            (place(&wanted), place(&before), item)
        })
        .partition(|(wanted, _, _)| wanted.is_some());
    named.sort_by_key(|(wanted, _, _)| *wanted);
    others.sort_by_key(|(_, before, _)| before.unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return arranged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((_, Some(other), _)), Some((_, Some(named), _))) => other < named,
            _ => false,
        };
        arranged.extend(if other_first { others.next() } else { named.next() }.map(|(_, _, item)| item));
    }
}
