//! `metadata.managedFields`: who owns what.

use serde_json::{Map, Value};

use super::set::{self, Set};

/// Upstream's limit on managers that update; the oldest beyond it are taken together.
const MAX_UPDATE_MANAGERS: usize = 10;
const OLD_UPDATES: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub operation: Operation,
    pub time: String,
    pub manager: String,
    pub api_version: String,
    pub subresource: String,
    pub fields: Set,
}

impl Entry {
    /// `None` where a client sent something that is no entry.
    fn parse(value: Value) -> Option<Entry> {
        let Value::Object(mut entry) = value else { return None };
        let operation = match entry.get("operation")?.as_str()? {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if entry.get("fieldsType").and_then(Value::as_str) != Some("FieldsV1") {
            return None;
        }
        let mut text = |name: &str| match entry.remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (time, manager, api_version, subresource) =
            (text("time"), text("manager"), text("apiVersion"), text("subresource"));
        let Some(Value::Object(fields)) = entry.remove("fieldsV1") else { return None };
        (!api_version.is_empty()).then_some(Entry { operation, time, manager, api_version, subresource, fields })
    }

    fn into_value(self) -> Value {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
        put("apiVersion", Value::String(self.api_version));
        put("fieldsType", Value::from("FieldsV1"));
        put("fieldsV1", Value::Object(self.fields));
        put("manager", Value::String(self.manager));
        put("operation", Value::from(if self.operation == Operation::Apply { "Apply" } else { "Update" }));
        if !self.subresource.is_empty() {
            put("subresource", Value::String(self.subresource));
        }
        if !self.time.is_empty() {
            put("time", Value::String(self.time));
        }
        Value::Object(entry)
    }

    /// As messages name it. An applier is the same one in every version.
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    /// True for the same manager at the same kind of work; versions matter to updates only.
    pub fn is(&self, operation: Operation, manager: &str, subresource: &str, api_version: &str) -> bool {
        self.operation == operation
            && self.manager == manager
            && self.subresource == subresource
            && (operation == Operation::Apply || self.api_version == api_version)
    }
}

/// Entries out of an object's list; `None` where one of them is malformed.
pub(super) fn parse(list: Value) -> Option<Vec<Entry>> {
    let Value::Array(list) = list else { return None };
    list.into_iter().map(Entry::parse).collect()
}

/// As [`parse`], for a list that a client made itself.
pub(super) fn parse_foreign(list: Value) -> Option<Vec<Entry>> {
    let mut entries = parse(list)?;
    for entry in &mut entries {
        entry.fields = set::canonical(&entry.fields)?;
    }
    Some(entries)
}

/// Puts the entries back, in upstream's order; those that own nothing are dropped.
pub(super) fn store(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| {
        (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            &b.time,
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        let list = entries.into_iter().map(Entry::into_value).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(list));
    }
}

/// Where too many managers updated, takes the oldest of each version together under one name.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let mut updaters = entries.iter().filter(|e| e.operation == Operation::Update).count();
    if updaters <= MAX_UPDATE_MANAGERS {
        return;
    }
    entries.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    let mut buckets: Vec<Entry> = Vec::new();
    let mut rest = Vec::new();
    for entry in entries.drain(..) {
        if entry.operation == Operation::Apply || updaters <= MAX_UPDATE_MANAGERS {
            rest.push(entry);
            continue;
        }
        match buckets.iter_mut().find(|bucket| bucket.api_version == entry.api_version) {
            Some(bucket) => {
                set::unite(&mut bucket.fields, &entry.fields);
                bucket.time = entry.time;
                OLD_UPDATES.clone_into(&mut bucket.manager);
                bucket.subresource.clear();
                updaters -= 1;
            }
            None => buckets.push(entry),
        }
    }
    *entries = buckets;
    entries.extend(rest);
}
