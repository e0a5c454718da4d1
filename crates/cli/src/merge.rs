//! The patch that brings an object on the server to what a file says now, given what it said last time.
//!
//! What the file names is set where it differs from the server; what it named last time and no longer does is removed;
//! what others added stays. Lists of named things are compared element by element where the API's schema says that
//! they merge. (<https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#merge-patch-calculation>)

use knarr_api::schema::{FieldRef, TypeRef};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Which half of the differences is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Fields that are new or different.
    Changes,
    /// Fields that are gone.
    Deletions,
    Both,
}

/// `ty` is `None` for custom resources: their lists are replaced as a whole, and the patch is a plain merge patch.
pub fn three_way(ty: Option<TypeRef<'_>>, original: &Value, modified: &Value, current: &Value) -> Value {
    let empty = Object::new();
    let object = |value: &'_ Value| value.as_object().cloned().unwrap_or_else(|| empty.clone());
    let (original, modified, current) = (object(original), object(modified), object(current));
    let deletions = maps(ty, &original, &modified, Want::Deletions);
    let changes = maps(ty, &current, &modified, Want::Changes);
    Value::Object(combine(ty, deletions, changes))
}

/// The patch that makes `modified` of `current`.
pub fn two_way(ty: Option<TypeRef<'_>>, current: &Value, modified: &Value) -> Value {
    let empty = Object::new();
    let (current, modified) = (current.as_object().unwrap_or(&empty), modified.as_object().unwrap_or(&empty));
    Value::Object(maps(ty, current, modified, Want::Both))
}

fn maps(ty: Option<TypeRef<'_>>, from: &Object, to: &Object, want: Want) -> Object {
    let mut patch = Object::new();
    for (key, old) in from {
        let field = ty.and_then(|ty| ty.field(key));
        let child = ty.and_then(|ty| ty.child(key));
        match (old, to.get(key)) {
            (_, None | Some(Value::Null)) => {
                if want != Want::Changes {
                    patch.insert(key.clone(), Value::Null);
                }
            }
            // kubectl sends these whether they differ or not.
            (Value::Object(_), Some(new @ Value::Object(_))) if field.is_some_and(|field| field.replaces()) => {
                if want != Want::Deletions {
                    patch.insert(key.clone(), new.clone());
                }
            }
            (old, Some(new)) if old == new && !old.is_object() => {}
            (Value::Object(old), Some(Value::Object(new))) => {
                let mut inner = maps(child, old, new, want);
                if !inner.is_empty() && want != Want::Deletions && field.is_some_and(|field| field.retains_keys()) {
                    inner.insert("$retainKeys".into(), new.keys().cloned().collect());
                }
                if !inner.is_empty() {
                    patch.insert(key.clone(), inner.into());
                }
            }
            (Value::Array(old), Some(Value::Array(new))) if field.is_some_and(|field| can_merge(&field, old, new)) => {
                if let Some(field) = field {
                    lists(field, key, old, new, want, &mut patch);
                }
            }
            (_, Some(new)) => {
                if want != Want::Deletions {
                    patch.insert(key.clone(), new.clone());
                }
            }
        }
    }
    if want != Want::Deletions {
        let new = to.iter().filter(|(key, value)| !from.contains_key(*key) && !value.is_null());
        patch.extend(new.map(|(key, value)| (key.clone(), value.clone())));
    }
    patch
}

/// Every element says which one it is.
fn can_merge(field: &FieldRef<'_>, old: &[Value], new: &[Value]) -> bool {
    field.merges()
        && match field.merge_key() {
            Some(key) => old.iter().chain(new).all(|item| !item[key].is_null()),
            None => old.iter().chain(new).all(|item| !item.is_object()),
        }
}

fn lists(field: FieldRef<'_>, name: &str, old: &[Value], new: &[Value], want: Want, patch: &mut Object) {
    let key = field.merge_key();
    let id = |item: &Value| key.map_or_else(|| item.clone(), |key| item[key].clone());
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for item in new {
        match (old.iter().find(|other| id(other) == id(item)), item) {
            (Some(Value::Object(before)), Value::Object(after)) => {
                let mut inner = maps(Some(field.ty().element()), before, after, want);
                if let (false, Some(key)) = (inner.is_empty(), key) {
                    inner.insert(key.into(), id(item));
                    changed.push(Value::Object(inner));
                }
            }
            (None, item) if want != Want::Deletions => changed.push(item.clone()),
            _ => {}
        }
    }
    if want != Want::Changes {
        for item in old.iter().filter(|item| !new.iter().any(|other| id(other) == id(item))) {
            match key {
                Some(key) => changed.push(json!({"$patch": "delete", key: id(item)})),
                None => gone.push(item.clone()),
            }
        }
    }
    let kept = |list: &[Value], other: &[Value]| -> Vec<Value> {
        list.iter().map(id).filter(|one| other.iter().any(|item| id(item) == *one)).collect()
    };
    let reordered = kept(old, new) != kept(new, old);
    if want != Want::Deletions && (!changed.is_empty() || !gone.is_empty() || reordered) {
        let order = new.iter().map(|item| key.map_or_else(|| item.clone(), |key| json!({key: id(item)}))).collect();
        patch.insert(format!("$setElementOrder/{name}"), order);
    }
    if !gone.is_empty() {
        patch.insert(format!("$deleteFromPrimitiveList/{name}"), gone.into());
    }
    if !changed.is_empty() {
        patch.insert(name.into(), changed.into());
    }
}

/// Two patches as one; where both say something, `over` holds.
fn combine(ty: Option<TypeRef<'_>>, mut base: Object, over: Object) -> Object {
    for (key, value) in over {
        let field = ty.and_then(|ty| ty.field(&key));
        let merged = match (base.remove(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => {
                Value::Object(combine(ty.and_then(|ty| ty.child(&key)), below, above))
            }
            (Some(Value::Array(mut below)), Value::Array(above)) => {
                let merge_key = field.as_ref().and_then(FieldRef::merge_key);
                for item in above {
                    let known = merge_key.and_then(|key| below.iter().position(|other| other[key] == item[key]));
                    match (known, item) {
                        (Some(at), Value::Object(item)) => {
                            let element = field.map(|field| field.ty().element());
                            let other = below[at].as_object().cloned().unwrap_or_default();
                            below[at] = Value::Object(combine(element, other, item));
                        }
                        (_, item) => below.push(item),
                    }
                }
                below.into()
            }
            (_, value) => value,
        };
        base.insert(key, merged);
    }
    base
}

#[cfg(test)]
mod tests {
    use knarr_api::{patch::strategic_merge_patch, schema};

    use super::*;

    fn deployment(spec: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec})
    }

    fn containers(list: Value) -> Value {
        deployment(json!({"template": {"spec": {"containers": list}}}))
    }

    #[test]
    fn a_patch_brings_the_server_to_what_the_file_says() {
        let ty = schema::of("apps", "v1", "Deployment");
        let rows = [
            // (said last time, says now, is on the server, will be)
            (
                deployment(json!({"replicas": 2, "paused": true})),
                deployment(json!({"replicas": 3})),
                deployment(json!({"replicas": 2, "paused": true, "minReadySeconds": 1})),
                deployment(json!({"replicas": 3, "minReadySeconds": 1})),
            ),
            (
                containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])),
                containers(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "1"}])),
                containers(
                    json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1", "tty": true}, {"name": "x"}]),
                ),
                containers(
                    json!([{"name": "b", "image": "2", "tty": true}, {"name": "x"}, {"name": "c", "image": "1"}]),
                ),
            ),
            (
                containers(json!([{"name": "a", "env": [{"name": "X", "value": "1"}], "args": ["a"]}])),
                containers(json!([{"name": "a", "args": ["b", "c"]}])),
                containers(json!([{"name": "a", "env": [{"name": "X", "value": "1"}], "args": ["a"]}])),
                containers(json!([{"name": "a", "args": ["b", "c"]}])),
            ),
        ];
        for (original, modified, current, expected) in rows {
            let patch = three_way(ty, &original, &modified, &current);
            let ty = ty.unwrap_or_else(|| panic!("there are Deployments"));
            let patched =
                strategic_merge_patch(ty, &current, &patch).unwrap_or_else(|error| panic!("{error}: {patch}"));
            let sorted = |mut value: Value| {
                if let Some(list) = value["spec"]["template"]["spec"]["containers"].as_array_mut() {
                    list.iter_mut().for_each(|c| _ = c.as_object_mut().map(|c| c.retain(|_, v| *v != json!([]))));
                    list.sort_by_key(|c| c["name"].to_string());
                }
                value
            };
            assert_eq!(sorted(patched), sorted(expected), "{patch}");
        }
    }

    #[test]
    fn nothing_to_do_is_an_empty_patch() {
        let file = containers(json!([{"name": "a", "image": "1"}]));
        let live = containers(json!([{"name": "a", "image": "1", "imagePullPolicy": "Always"}]));
        assert_eq!(three_way(schema::of("apps", "v1", "Deployment"), &file, &file, &live), json!({}));
    }
}
