//! Walks over typed values: which fields a value has, and which fields two values differ in.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::LazyLock,
};

use serde_json::{Map, Value, map::Entry};

use super::set::{self, Set};
use crate::schema::{Kind, Relation, TypeRef};

/// `None` where no schema tells: then maps are granular, and all else is one value.
pub(super) type Type<'a> = Option<TypeRef<'a>>;

/// How a value is taken apart.
pub(super) enum Shape<'a, 'v> {
    /// One value as a whole.
    Leaf,
    Map(&'v Map<String, Value>),
    Associative(TypeRef<'a>, &'v [Value]),
    Set(&'v [Value]),
}

pub(super) fn shape<'a, 'v>(ty: Type<'a>, value: &'v Value) -> Shape<'a, 'v> {
    let Some(ty) = typed(ty) else {
        return value.as_object().map_or(Shape::Leaf, Shape::Map);
    };
    match (ty.kind(), ty.relation(), value) {
        (Kind::Struct | Kind::Map, Relation::Granular, Value::Object(map)) => Shape::Map(map),
        (Kind::List, Relation::Associative, Value::Array(items)) => Shape::Associative(ty, items),
        (Kind::List, Relation::Set, Value::Array(items)) => Shape::Set(items),
        _ => Shape::Leaf,
    }
}

/// Granular untyped JSON is no type at all.
fn typed(ty: Type<'_>) -> Type<'_> {
    ty.filter(|ty| ty.kind() != Kind::Any || ty.relation() == Relation::Atomic)
}

pub(super) fn child<'a>(ty: Type<'a>, name: &str) -> Type<'a> {
    typed(ty)?.child(name)
}

/// An element of an associative list as sets name it: `k:{"containerPort":80,"protocol":"TCP"}`. `None` where a key
/// is missing and has no default.
pub(super) fn element_key(list: TypeRef<'_>, item: &Value) -> Option<String> {
    let item = item.as_object()?;
    let mut keys: Vec<(&str, Cow<'_, Value>)> = Vec::with_capacity(2);
    for name in list.keys() {
        let value = match item.get(name) {
            Some(value) if !value.is_null() => Cow::Borrowed(value),
            _ => Cow::Owned(list.element().field(name)?.default()?),
        };
        keys.push((name, value));
    }
    keys.sort_unstable_by_key(|key| key.0);
    let mut text = String::with_capacity(32);
    text.push_str("k:{");
    for (index, (name, value)) in keys.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}\"{name}\":{value}").ok()?;
    }
    text.push('}');
    Some(text)
}

/// Why a configuration can't be merged, after the path of where: a list names an element twice, or not at all.
pub(super) fn unmergeable(ty: Type<'_>, value: &Value) -> Option<String> {
    match shape(ty, value) {
        Shape::Leaf => None,
        Shape::Map(map) => {
            map.iter().find_map(|(name, value)| unmergeable(child(ty, name), value).map(|why| format!(".{name}{why}")))
        }
        Shape::Set(items) => {
            let mut seen = BTreeSet::new();
            let doubled = items.iter().find(|item| !seen.insert(value_key(item)))?;
            Some(format!(": duplicate entries for key [={doubled}]"))
        }
        Shape::Associative(list, items) => {
            let mut seen = BTreeSet::new();
            items.iter().enumerate().find_map(|(at, item)| {
                let Some(key) = element_key(list, item) else {
                    let has = |name: &&str| item.get(name).is_some_and(|value| !value.is_null());
                    let missing = list.keys().find(|name| !has(name)).unwrap_or_default();
                    return Some(format!(
                        ": element {at}: associative list with keys has an element that omits key field {missing:?} \
                         (and doesn't have default value)"
                    ));
                };
                let printed = set::print(&key);
                match unmergeable(Some(list.element()), item) {
                    Some(why) => Some(format!("{printed}{why}")),
                    None if seen.insert(key) => None,
                    None => Some(format!(": duplicate entries for key {printed}")),
                }
            })
        }
    }
}

pub(super) fn value_key(value: &Value) -> String {
    format!("v:{value}")
}

/// The elements of an associative list by key; more than one where a key is doubled. `None` where one has no key.
fn by_key<'v>(list: TypeRef<'_>, items: &'v [Value]) -> Option<BTreeMap<String, Vec<&'v Value>>> {
    let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in items {
        found.entry(element_key(list, item)?).or_default().push(item);
    }
    Some(found)
}

/// Which nodes between the root and the leaves are members.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parents {
    /// None but the elements of lists: what a manager applies.
    Elements,
    /// All: what appears when a value is added.
    All,
}

/// The fields of a value, as a node.
pub(super) fn fields_of(ty: Type<'_>, value: &Value, parents: Parents) -> Set {
    let mut found = Set::new();
    match shape(ty, value) {
        Shape::Leaf => return set::leaf(),
        Shape::Map(map) => {
            // In order, which makes a map much faster than one after another.
            let fields = |(name, value): (&String, &Value)| {
                (field_key(name), Value::Object(fields_of(child(ty, name), value, parents)))
            };
            found = map.iter().map(fields).collect();
        }
        Shape::Associative(list, items) => {
            let element = Some(list.element());
            for item in items {
                let Some(key) = element_key(list, item) else { return set::leaf() };
                match found.entry(key) {
                    Entry::Vacant(place) => {
                        let fields = element_fields(element, item, parents);
                        place.insert(Value::Object(fields));
                    }
                    // Elements of one name can't be told apart, and so are owned as a whole.
                    Entry::Occupied(mut doubled) => *doubled.get_mut() = Value::Object(set::leaf()),
                }
            }
        }
        Shape::Set(items) => {
            for item in items {
                set::put(&mut found, value_key(item), Some(set::leaf()));
            }
        }
    }
    if parents == Parents::All && !found.is_empty() {
        return set::finish(found, true).unwrap_or_default();
    }
    found
}

/// The fields of a list's element, which is a member itself whatever it holds.
fn element_fields(ty: Type<'_>, item: &Value, parents: Parents) -> Set {
    let mut fields = fields_of(ty, item, parents);
    if !fields.is_empty() {
        fields.entry(set::SELF).or_insert_with(|| Value::Object(Set::new()));
    }
    fields
}

pub(super) fn field_key(name: &str) -> String {
    let mut key = String::with_capacity(2 + name.len());
    key.push_str("f:");
    key.push_str(name);
    key
}

/// What differs between two values, each a node; `None` where nothing does.
#[derive(Default)]
pub(super) struct Difference {
    /// Added or modified.
    pub changed: Option<Set>,
    pub removed: Option<Set>,
}

/// Structs that upstream's types hold by value: they are there even where the object does not show them, so that
/// adding something to them does not add them. The same goes for lists that are required.
const ALWAYS_THERE: &[&str] = &[
    "daemonEndpoints",
    "jobTemplate",
    "kubeletEndpoint",
    "lastState",
    "loadBalancer",
    "metadata",
    "names",
    "nodeInfo",
    "resources",
    "source",
    "spec",
    "state",
    "status",
    "strategy",
    "template",
    "updateStrategy",
];

/// What a field that the object does not show holds nevertheless.
fn always_there(ty: Type<'_>, name: &str) -> Option<&'static Value> {
    static NO_FIELDS: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
    static NO_ITEMS: Value = Value::Array(Vec::new());
    let field = ty?.field(name)?;
    match field.ty().kind() {
        Kind::Struct if ALWAYS_THERE.contains(&name) && !field.ty().is_leaf() => Some(&NO_FIELDS),
        Kind::List if field.is_required() && !field.ty().is_leaf() => Some(&NO_ITEMS),
        _ => None,
    }
}

pub(super) fn difference(ty: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> Difference {
    match (old, new) {
        (None, None) => Difference::default(),
        (None, Some(new)) => Difference { changed: Some(fields_of(ty, new, Parents::All)), removed: None },
        (Some(old), None) => Difference { changed: None, removed: Some(fields_of(ty, old, Parents::All)) },
        (Some(old), Some(new)) => match (shape(ty, old), shape(ty, new)) {
            (Shape::Map(old), Shape::Map(new)) if old.is_empty() && new.is_empty() => Difference::default(),
            (Shape::Map(old), Shape::Map(new)) => map_difference(ty, old, new, &[]),
            (Shape::Associative(list, old), Shape::Associative(_, new)) => list_difference(list, old, new),
            (Shape::Set(old), Shape::Set(new)) => set_difference(old, new),
            (Shape::Leaf, Shape::Leaf) if old == new => Difference::default(),
            (Shape::Leaf, _) => Difference { changed: Some(fields_of(ty, new, Parents::All)), removed: None },
            _ => Difference {
                changed: Some(fields_of(ty, new, Parents::All)),
                removed: Some(fields_of(ty, old, Parents::All)),
            },
        },
    }
}

/// As [`difference`] of two maps, but blind to the names in `skip`.
pub(super) fn map_difference(
    ty: Type<'_>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    skip: &[&str],
) -> Difference {
    let (mut changed, mut removed) = (Set::new(), Set::new());
    let missing = |name: &str| always_there(ty, name);
    let mut visit = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        if skip.contains(&name) {
            return;
        }
        let child = child(ty, name);
        let found = difference(child, old.or_else(|| missing(name)), new.or_else(|| missing(name)));
        if found.changed.is_some() {
            set::put(&mut changed, field_key(name), found.changed);
        }
        if found.removed.is_some() {
            set::put(&mut removed, field_key(name), found.removed);
        }
    };
    for (name, value) in new {
        visit(name, old.get(name), Some(value));
    }
    for (name, value) in old {
        if !new.contains_key(name) {
            visit(name, Some(value), None);
        }
    }
    Difference { changed: set::finish(changed, false), removed: set::finish(removed, false) }
}

fn list_difference(list: TypeRef<'_>, old: &[Value], new: &[Value]) -> Difference {
    if old == new {
        return Difference::default();
    }
    let (Some(old), Some(new)) = (by_key(list, old), by_key(list, new)) else {
        return Difference { changed: Some(set::leaf()), removed: None };
    };
    let (mut changed, mut removed) = (Set::new(), Set::new());
    for (key, items) in &new {
        let found = match (old.get(key).map(Vec::as_slice), &items[..]) {
            (Some([old]), [new]) => difference(Some(list.element()), Some(old), Some(new)),
            (None, [new]) => {
                let fields = element_fields(Some(list.element()), new, Parents::All);
                Difference { changed: Some(fields), removed: None }
            }
            (Some(old), new) if old == new => Difference::default(),
            _ => Difference { changed: Some(set::leaf()), removed: None },
        };
        set::put(&mut changed, key.clone(), found.changed);
        set::put(&mut removed, key.clone(), found.removed);
    }
    for (key, items) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        let fields = match items[..] {
            [only] => element_fields(Some(list.element()), only, Parents::All),
            _ => set::leaf(),
        };
        set::put(&mut removed, key.clone(), Some(fields));
    }
    Difference { changed: set::finish(changed, false), removed: set::finish(removed, false) }
}

fn set_difference(old: &[Value], new: &[Value]) -> Difference {
    if old == new {
        return Difference::default();
    }
    let elements =
        |items: &[Value]| -> Set { items.iter().map(|item| (value_key(item), Value::Object(set::leaf()))).collect() };
    let (old, new) = (elements(old), elements(new));
    let only_in = |one: &Set, other: &Set| {
        let mut found = one.clone();
        found.retain(|key, _| !other.contains_key(key));
        set::finish(found, false)
    };
    Difference { changed: only_in(&new, &old), removed: only_in(&old, &new) }
}
