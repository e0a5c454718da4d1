//! Strategic merge patch: a merge patch that knows lists of named things from lists of values.
//!
//! The format is described in upstream's "Strategic Merge Patch" contributor notes: directives `$patch`,
//! `$retainKeys`, `$deleteFromPrimitiveList/…` and `$setElementOrder/…`, with merge keys from the schema table.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    PatchError,
    order::{self, Identity},
};
use crate::schema::{FieldRef, TypeRef};

type Object = Map<String, Value>;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";
/// How often one list of a patch may come back to elements it has changed. Each time costs a walk over what is in the
/// element, which the same few bytes could ask for without end.
const MAX_REPEATS: usize = 100;

/// Merges `patch` into `original`, both of type `ty`.
pub fn strategic_merge_patch(ty: TypeRef<'_>, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Some(patch) = patch.as_object() else {
        return Err(PatchError::malformed("error decoding patch: the strategic merge patch must be a JSON object"));
    };
    let original = original.as_object().cloned().unwrap_or_default();
    merge_maps(Some(ty), original, patch.clone()).map(Value::Object)
}

fn merge_maps(ty: Option<TypeRef<'_>>, mut original: Object, mut patch: Object) -> Result<Object, PatchError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(without_directives(patch)),
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(&directive)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    let (ordered, rest): (Object, Object) = patch.into_iter().partition(|(name, _)| name.starts_with(ORDER_PREFIX));
    let mut rest = rest;
    for (directive, wanted) in ordered {
        let name = &directive[ORDER_PREFIX.len()..];
        set_order(ty, &mut original, name, rest.remove(name), wanted)?;
    }
    for (name, value) in rest {
        match name.strip_prefix(DELETE_PREFIX) {
            Some(name) => delete_from_list(&mut original, name, value)?,
            None => merge_field(ty, &mut original, name, value)?,
        }
    }
    Ok(original)
}

fn merge_field(ty: Option<TypeRef<'_>>, original: &mut Object, name: String, patch: Value) -> Result<(), PatchError> {
    let field = ty.and_then(|ty| ty.field(&name));
    let merged = match (original.remove(&name), patch) {
        (_, Value::Null) => return Ok(()),
        (Some(Value::Object(old)), Value::Object(patch)) => {
            let child = ty.and_then(|ty| ty.child(&name));
            match field.is_some_and(|field| field.replaces()) {
                true => Value::Object(without_directives(patch)),
                false => Value::Object(merge_maps(child, old, patch)?),
            }
        }
        (Some(Value::Array(old)), Value::Array(patch)) => match field.filter(FieldRef::merges) {
            Some(field) => Value::Array(merge_lists(field, old, patch)?),
            None => clean(Value::Array(patch)),
        },
        (_, patch) => clean(patch),
    };
    original.insert(name, merged);
    Ok(())
}

/// `$retainKeys`: fields of the original that are not named go.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::malformed("invalid patch format of retainKeys");
    let keys: BTreeSet<&str> =
        directive.as_array().and_then(|keys| keys.iter().map(Value::as_str).collect()).ok_or_else(bad)?;
    let stray =
        |(name, value): (&String, &Value)| !value.is_null() && !name.starts_with('$') && !keys.contains(name.as_str());
    if patch.iter().any(stray) {
        return Err(bad());
    }
    original.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

fn delete_from_list(original: &mut Object, name: &str, gone: Value) -> Result<(), PatchError> {
    let Value::Array(gone) = gone else {
        return Err(PatchError::malformed("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(items)) = original.get_mut(name) {
        let identity = Identity { merge_key: None };
        let gone = identity.positions(&gone);
        items.retain(|item| identity.of(item).is_none_or(|item| !gone.contains_key(&item)));
    }
    Ok(())
}

/// `$setElementOrder`: merges the list as usual and then brings it into the order that the client wants.
fn set_order(
    ty: Option<TypeRef<'_>>,
    original: &mut Object,
    name: &str,
    patch: Option<Value>,
    wanted: Value,
) -> Result<(), PatchError> {
    let bad = || PatchError::malformed("invalid patch format of setElementOrder list");
    let Value::Array(wanted) = wanted else { return Err(bad()) };
    let field = ty.and_then(|ty| ty.field(name)).filter(FieldRef::merges);
    let identity = Identity { merge_key: field.and_then(|field| field.merge_key()) };
    let old = match original.get(name) {
        Some(Value::Array(items)) => Some(items.clone()),
        _ => None,
    };
    let patch = match patch {
        Some(Value::Array(items)) => Some(items),
        Some(Value::Null) => {
            original.remove(name);
            return Ok(());
        }
        Some(_) => return Err(bad()),
        None => None,
    };
    let changed = patch.iter().flatten().filter(|item| item.get(PATCH).is_none());
    let places = identity.positions(&wanted);
    let is_placed = |item: &Value| identity.of(item).is_some_and(|item| places.contains_key(&item));
    if field.is_some() && changed.into_iter().any(|item| !is_placed(item)) {
        return Err(PatchError::malformed(format!(
            "The order in patch list:\n{}\n doesn't match {ORDER_PREFIX} list:\n{}\n",
            Value::Array(patch.unwrap_or_default()),
            Value::Array(wanted)
        )));
    }
    let merged = match (field, old.clone(), patch) {
        (_, None, None) => return Ok(()),
        (_, Some(old), None) => old,
        (Some(field), old, Some(patch)) => merge_lists(field, old.unwrap_or_default(), patch)?,
        (None, _, Some(patch)) => patch.into_iter().map(clean).collect(),
    };
    let merged = order::arrange(merged, &wanted, &old.unwrap_or_default(), identity);
    original.insert(name.to_owned(), Value::Array(merged));
    Ok(())
}

fn merge_lists(field: FieldRef<'_>, original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let items = || original.iter().chain(&patch);
    if items().any(Value::is_array) {
        return Err(PatchError::does_not_apply("lists of lists are not supported"));
    }
    let has_objects = items().any(Value::is_object);
    if has_objects && !items().all(Value::is_object) {
        return Err(PatchError::does_not_apply("list element types are not identical"));
    }
    let identity = Identity { merge_key: field.merge_key() };
    let old = original.clone();
    let (merged, wanted) = if has_objects {
        let Some(key) = field.merge_key() else {
            let message = format!("cannot merge lists without merge key for type {}", field.name());
            return Err(PatchError::does_not_apply(message));
        };
        merge_objects(field.ty().element(), key, original, patch)?
    } else {
        let mut seen = BTreeSet::new();
        let both = original.into_iter().chain(patch.iter().cloned());
        let merged = both.filter(|item| seen.insert(item.to_string())).collect();
        (merged, patch)
    };
    Ok(order::arrange(merged, &wanted, &old, identity))
}

/// The merged elements, and those of the patch that are no directives.
fn merge_objects(
    element: TypeRef<'_>,
    key: &str,
    mut original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut changes = Vec::new();
    let mut gone = BTreeSet::new();
    let mut replaces = false;
    for item in patch {
        match item.get(PATCH) {
            None => changes.push(item),
            Some(directive) => match directive.as_str() {
                Some("replace") => replaces = true,
                Some("delete") => {
                    let Some(name) = item.get(key) else {
                        return Err(no_merge_key(&item, key));
                    };
                    gone.insert(name.to_string());
                }
                Some("merge") => {
                    return Err(PatchError::malformed("merging lists cannot yet be specified in the patch"));
                }
                _ => return Err(unknown_directive(directive)),
            },
        }
    }
    original.retain(|old| old.get(key).is_none_or(|name| !gone.contains(&name.to_string())));
    if replaces {
        return Ok((changes.into_iter().map(clean).collect(), Vec::new()));
    }
    let identity = Identity { merge_key: Some(key) };
    let mut places = identity.positions(&original);
    if changes.len() > identity.positions(&changes).len() + MAX_REPEATS {
        let message = format!("The allowed maximum of repeated elements in a list of a patch is {MAX_REPEATS}");
        return Err(PatchError::TooLarge { message });
    }
    for item in &changes {
        let (Some(_), Value::Object(change), Some(name)) = (item.get(key), item, identity.of(item)) else {
            return Err(no_merge_key(item, key));
        };
        let place = *places.entry(name).or_insert(original.len());
        let base = match original.get_mut(place).map(Value::take) {
            Some(Value::Object(base)) => base,
            _ => Object::new(),
        };
        let merged = Value::Object(merge_maps(Some(element), base, change.clone())?);
        match original.get_mut(place) {
            Some(old) => *old = merged,
            None => original.push(merged),
        }
    }
    Ok((original, changes))
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    PatchError::does_not_apply(format!("map: {item} does not contain declared merge key: {key}"))
}

fn unknown_directive(directive: &Value) -> PatchError {
    let directive = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    PatchError::malformed(format!("unknown patch type: {directive}"))
}

/// A value as it is taken where there is nothing to merge it with: without directives, and without nulls in objects.
fn clean(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives(map)),
        Value::Array(items) => {
            Value::Array(items.into_iter().filter(|item| item.get(PATCH).is_none()).map(clean).collect())
        }
        other => other,
    }
}

fn without_directives(map: Object) -> Object {
    if map.get(PATCH).and_then(Value::as_str) == Some("delete") {
        return Object::new();
    }
    let is_directive = |name: &str| {
        name == PATCH || name == RETAIN_KEYS || name.starts_with(DELETE_PREFIX) || name.starts_with(ORDER_PREFIX)
    };
    map.into_iter()
        .filter(|(name, value)| !is_directive(name) && !value.is_null())
        .map(|(name, value)| (name, clean(value)))
        .collect()
}
