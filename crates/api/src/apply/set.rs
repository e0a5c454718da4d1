//! Sets of field paths, kept in the very form in which objects store them (FieldsV1).
//!
//! A set is a trie of JSON objects. Its keys are path elements: `f:name` for a field, `k:{"name":"x"}` for an element
//! of an associative list, `v:"x"` for one of a set; `.` says that the node itself is in the set, and so does a node
//! without children. Keys are canonical (key fields sorted, no white space), so that sets are united and subtracted
//! without being parsed.
//!
//! Upstream documents the format with `FieldsV1` of `meta/v1`.

use serde_json::{Map, Value};

/// A set, or a node of one. The root itself is never a member: an empty root is the empty set.
pub(super) type Set = Map<String, Value>;

pub(super) const SELF: &str = ".";

/// A node that is a member and has no children.
pub(super) fn leaf() -> Set {
    Set::new()
}

pub(super) fn node(value: &Value) -> Option<&Set> {
    value.as_object()
}

/// True where the node itself, and not only something below it, is in the set.
pub(super) fn is_member(node: &Set) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// The node's children by path element.
pub(super) fn children(node: &Set) -> impl Iterator<Item = (&String, &Set)> {
    node.iter()
        .filter(|(element, _)| *element != SELF)
        .filter_map(|(element, value)| Some((element, value.as_object()?)))
}

/// Adds a child that is not there yet; a child that is neither member nor parent is left out.
pub(super) fn put(parent: &mut Set, element: String, child: Option<Set>) {
    if let Some(child) = child {
        parent.insert(element, Value::Object(child));
    }
}

/// Makes a node of children: `None` where there is neither a child nor membership.
pub(super) fn finish(mut children: Set, member: bool) -> Option<Set> {
    match (children.is_empty(), member) {
        (true, false) => None,
        (true, true) => Some(leaf()),
        (false, member) => {
            if member {
                children.insert(SELF.to_owned(), Value::Object(Set::new()));
            }
            Some(children)
        }
    }
}

/// `set` and `other` together; both are roots.
pub(super) fn unite(set: &mut Set, other: &Set) {
    for (element, theirs) in children(other) {
        match set.get_mut(element).and_then(Value::as_object_mut) {
            Some(ours) => unite_nodes(ours, theirs),
            None => {
                set.insert(element.clone(), Value::Object(theirs.clone()));
            }
        }
    }
}

fn unite_nodes(ours: &mut Set, theirs: &Set) {
    let member = is_member(ours) || is_member(theirs);
    unite(ours, theirs);
    if member && !ours.is_empty() {
        ours.entry(SELF).or_insert_with(|| Value::Object(Set::new()));
    }
}

/// `set` without the members of `other`; both are roots.
pub(super) fn subtract(set: &mut Set, other: &Set) {
    for (element, theirs) in children(other) {
        if let Some(ours) = set.get_mut(element).and_then(Value::as_object_mut)
            && !subtract_nodes(ours, theirs)
        {
            set.remove(element);
        }
    }
}

/// False where nothing is left of the node.
fn subtract_nodes(ours: &mut Set, theirs: &Set) -> bool {
    if ours.is_empty() {
        return !is_member(theirs);
    }
    if is_member(theirs) {
        ours.remove(SELF);
    }
    subtract(ours, theirs);
    if ours.len() == 1 && ours.contains_key(SELF) {
        ours.clear();
        return true;
    }
    !ours.is_empty()
}

/// What is in both; both are roots, or nodes whose own membership does not count.
pub(super) fn intersect(one: &Set, other: &Set) -> Set {
    let mut both = Set::new();
    for (element, ours) in children(one) {
        if let Some(theirs) = other.get(element).and_then(node) {
            let member = is_member(ours) && is_member(theirs);
            put(&mut both, element.clone(), finish(intersect(ours, theirs), member));
        }
    }
    both
}

/// Takes out a path of field names and all below it.
pub(super) fn cut(set: &mut Set, path: &[&str]) {
    let [first, rest @ ..] = path else { return };
    let element = format!("f:{first}");
    if rest.is_empty() {
        set.remove(&element);
    } else if let Some(child) = set.get_mut(&element).and_then(Value::as_object_mut)
        && !child.is_empty()
    {
        cut(child, rest);
        if child.is_empty() {
            set.remove(&element);
        }
    }
}

/// The members as upstream prints paths: `.spec.containers[name="nginx"].image`.
pub(super) fn paths(set: &Set) -> Vec<String> {
    fn visit(set: &Set, prefix: &str, out: &mut Vec<String>) {
        for (element, child) in children(set) {
            let path = format!("{prefix}{}", print(element));
            if is_member(child) {
                out.push(path.clone());
            }
            visit(child, &path, out);
        }
    }
    let mut out = Vec::new();
    visit(set, "", &mut out);
    out
}

/// A path element as upstream prints it.
pub(super) fn print(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Set = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some(("i", index)) => format!("[{index}]"),
        _ => element.to_owned(),
    }
}

/// A set that a client sent, with canonical path elements; `None` where it is none.
pub(super) fn canonical(set: &Set) -> Option<Set> {
    set.iter()
        .map(|(element, child)| {
            let child = canonical(child.as_object()?)?;
            let element = match element.split_once(':') {
                None if element == SELF => element.clone(),
                Some(("f", _)) => element.clone(),
                Some(("k", keys)) => {
                    let keys: std::collections::BTreeMap<String, Value> = serde_json::from_str(keys).ok()?;
                    format!("k:{}", serde_json::to_string(&keys).ok()?)
                }
                Some(("v", value)) => format!("v:{}", serde_json::from_str::<Value>(value).ok()?),
                Some(("i", index)) => format!("i:{}", index.parse::<usize>().ok()?),
                _ => return None,
            };
            Some((element, Value::Object(child)))
        })
        .collect()
}
