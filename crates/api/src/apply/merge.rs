//! Brings an applied configuration into an object, and takes out what is no longer applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    set::{self, Set},
    walk::{self, Shape, Type},
};
use crate::schema::{Kind, TypeRef};

/// Lays `config` over `base`: maps and associative lists are merged, sets united, all else replaced.
///
/// No list of `config` names an element twice: [`super::walk::unmergeable`] was asked.
pub(super) fn merge(ty: Type<'_>, base: &mut Value, config: &Value) {
    match (walk::shape(ty, config), &mut *base) {
        (Shape::Map(config), Value::Object(base)) => {
            for (name, value) in config {
                match base.get_mut(name) {
                    Some(base) => merge(walk::child(ty, name), base, value),
                    None => {
                        base.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Shape::Associative(list, config), Value::Array(base)) => merge_lists(list, base, config),
        (Shape::Set(config), Value::Array(base)) => {
            let mut seen: BTreeSet<String> = base.iter().map(walk::value_key).collect();
            base.extend(config.iter().filter(|item| seen.insert(walk::value_key(item))).cloned());
        }
        _ => *base = config.clone(),
    }
}

/// The elements that only `base` has keep their places; those of `config` come in its order.
fn merge_lists(list: TypeRef<'_>, base: &mut Vec<Value>, config: &[Value]) {
    let keys = |items: &[Value]| items.iter().map(|item| walk::element_key(list, item)).collect::<Option<Vec<_>>>();
    let (Some(base_keys), Some(config_keys)) = (keys(base), keys(config)) else {
        *base = config.to_vec();
        return;
    };
    let wanted: BTreeSet<&str> = config_keys.iter().map(String::as_str).collect();
    let place: BTreeMap<&str, usize> = base_keys.iter().enumerate().rev().map(|(i, k)| (k.as_str(), i)).collect();
    let mut old: Vec<Option<Value>> = std::mem::take(base).into_iter().map(Some).collect();
    let mut next = 0;
    for (key, item) in config_keys.iter().zip(config) {
        let Some(&at) = place.get(key.as_str()) else {
            // New elements come after those that stand where the last common one stood.
            base.push(item.clone());
            continue;
        };
        while next < at {
            if !wanted.contains(base_keys[next].as_str()) {
                base.extend(old[next].take());
            }
            next += 1;
        }
        let mut merged = old[at].take().unwrap_or_default();
        merge(Some(list.element()), &mut merged, item);
        base.push(merged);
    }
    base.extend(
        old.into_iter().zip(&base_keys).filter(|(_, key)| !wanted.contains(key.as_str())).filter_map(|(v, _)| v),
    );
}

/// Removes what is in `last` (applied before) and in nobody's set any more; `owned` is the union of all sets.
pub(super) fn prune(ty: Type<'_>, value: &mut Value, last: &Set, owned: &Set) {
    match (walk::shape(ty, value), last.is_empty()) {
        (_, true) | (Shape::Leaf, _) => {}
        (Shape::Map(_), _) => {
            if let Value::Object(map) = value {
                prune_map(ty, map, last, owned);
            }
        }
        (Shape::Associative(list, _), _) => {
            if let Value::Array(items) = value {
                prune_list(list, items, last, owned);
            }
        }
        (Shape::Set(_), _) => {
            if let Value::Array(items) = value {
                items.retain(|item| {
                    let key = walk::value_key(item);
                    !last.contains_key(&key) || owned.contains_key(&key)
                });
            }
        }
    }
}

fn prune_map(ty: Type<'_>, map: &mut Map<String, Value>, last: &Set, owned: &Set) {
    // A field of a struct counts as a member also where only something below it is one.
    let named = ty.is_some_and(|ty| ty.kind() == Kind::Struct);
    let empty = Set::new();
    for (element, before) in set::children(last) {
        let Some(name) = element.strip_prefix("f:") else { continue };
        let now = owned.get(element).and_then(set::node);
        let still = now.is_some_and(|now| named || set::is_member(now));
        if (named || set::is_member(before)) && !still {
            map.remove(name);
            continue;
        }
        let Some(value) = map.get_mut(name) else { continue };
        let was_empty = is_empty(value);
        prune(walk::child(ty, name), value, before, now.unwrap_or(&empty));
        if is_empty(value) && !was_empty && !now.is_some_and(set::is_member) {
            map.remove(name);
        }
    }
}

fn prune_list(list: TypeRef<'_>, items: &mut Vec<Value>, last: &Set, owned: &Set) {
    let empty = Set::new();
    items.retain_mut(|item| {
        let Some(key) = walk::element_key(list, item) else { return true };
        let Some(before) = last.get(&key).and_then(set::node) else { return true };
        let now = owned.get(&key).and_then(set::node);
        if set::is_member(before) && !now.is_some_and(set::is_member) {
            return false;
        }
        prune(Some(list.element()), item, before, now.unwrap_or(&empty));
        true
    });
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
