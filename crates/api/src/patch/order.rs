//! The order of a merged list: elements of the patch as the patch has them, the others as they stood.

use serde_json::Value;

/// What makes two elements the same one: the merge key, or for scalars the value.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    pub merge_key: Option<&'a str>,
}

impl Identity<'_> {
    fn same(self, one: &Value, other: &Value) -> bool {
        match self.merge_key {
            Some(key) if one.is_object() || other.is_object() => {
                one.get(key).is_some_and(|name| other.get(key) == Some(name))
            }
            _ => one == other,
        }
    }

    fn position(self, list: &[Value], item: &Value) -> Option<usize> {
        list.iter().position(|other| self.same(other, item))
    }

    pub(super) fn contains(self, list: &[Value], item: &Value) -> bool {
        self.position(list, item).is_some()
    }
}

/// Sorts `items`: those in `wanted` in its order, the rest in the order of `before`, and the two woven together as
/// they stood in `before`.
pub(super) fn arrange(items: Vec<Value>, wanted: &[Value], before: &[Value], identity: Identity<'_>) -> Vec<Value> {
    let (mut named, mut others): (Vec<_>, Vec<_>) = items
        .into_iter()
        .map(|item| (identity.position(wanted, &item), identity.position(before, &item), item))
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
