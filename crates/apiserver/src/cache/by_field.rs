//! The objects of a resource by one of their fields, where few of many are asked for again and again: the pods of a
//! node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use knarr_api::{registry::Resource, strategy};

use crate::contract::Stored;

/// Which field of which resource.
const INDEXED: [(&str, &str, &str); 1] = [("", "pods", "spec.nodeName")];

/// Keys by value. An object whose field is empty is in no list.
#[derive(Debug)]
pub(super) struct ByField {
    /// The field's place among those of an object.
    at: usize,
    keys: HashMap<Box<str>, BTreeSet<Box<str>>>,
}

impl ByField {
    pub fn of(resource: &Resource) -> Option<Self> {
        let (_, _, field) =
            INDEXED.into_iter().find(|(group, plural, _)| (*group, *plural) == (resource.group, resource.plural))?;
        let at = strategy::of(resource).selectable_fields().iter().position(|known| *known == field)?;
        Some(Self { at, keys: HashMap::new() })
    }

    fn value<'o>(&self, object: &'o Stored) -> &'o str {
        object.fields.get(self.at).map_or("", AsRef::as_ref)
    }

    pub fn keys(&self, value: &str) -> impl Iterator<Item = &str> {
        self.keys.get(value).into_iter().flatten().map(AsRef::as_ref)
    }

    pub fn load(&mut self, objects: &BTreeMap<Box<str>, Arc<Stored>>) {
        self.keys.clear();
        for (key, object) in objects {
            self.change(key, None, Some(object));
        }
    }

    /// An object comes, changes or goes. Most changes leave the field alone, and cost a comparison.
    pub fn change(&mut self, key: &str, before: Option<&Stored>, after: Option<&Stored>) {
        let (old, new) =
            (before.map_or("", |object| self.value(object)), after.map_or("", |object| self.value(object)));
        if old == new {
            return;
        }
        if let Some(keys) = self.keys.get_mut(old) {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(old);
            }
        }
        if !new.is_empty() {
            self.keys.entry(new.into()).or_default().insert(key.into());
        }
    }
}
