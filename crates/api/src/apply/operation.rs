//! The two ways a write claims fields.

use std::mem;

use serde_json::{Map, Value};

use super::{
    ApplyError, ApplyRequest, Conflict, Writer,
    managers::{self, Entry, Operation},
    merge,
    set::{self, Set},
    walk::{self, Difference, Parents, Type},
};
use crate::{
    schema::{self, SchemaError},
    time,
};

/// What the server sets, or what names the object: nobody owns it.
const UNOWNED_METADATA: &[&str] = &[
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The whole object once more, as client-side apply writes it there.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Records in `new.metadata.managedFields` that `writer` made `new` out of `old` (`None`: created it).
///
/// The managed fields that the client sent are taken where they are well-formed and the write is to the object
/// itself; else those of `old` are. A list of one empty entry clears them.
pub fn track_update(writer: Writer<'_>, old: Option<&Value>, new: &mut Value) {
    let sent = new.get_mut("metadata").and_then(|m| m.get_mut("managedFields")).map(Value::take);
    let stored = old.map(|old| &old["metadata"]["managedFields"]).filter(|list| list.is_array());
    let cleared = sent.as_ref().is_some_and(|list| *list == serde_json::json!([{}]));
    let mut entries = if cleared {
        Vec::new()
    } else {
        let sent = sent.filter(|list| writer.subresource.is_empty() && list.as_array().is_some_and(|l| !l.is_empty()));
        match sent {
            Some(sent) if Some(&sent) == stored => managers::parse(sent),
            Some(sent) => managers::parse_foreign(sent),
            None => None,
        }
        .or_else(|| managers::parse(stored?.clone()))
        .unwrap_or_default()
    };
    // As upstream: an object whose owners were cleared has none until it is next applied.
    if cleared || (entries.is_empty() && old.is_some()) {
        managers::store(new, Vec::new());
        return;
    }
    let found = object_difference(&writer, old, new);
    if found.changed.is_some() || found.removed.is_some() {
        claim(&writer, &mut entries, new, found);
    }
    managers::store(new, entries);
}

/// Gives what changed to the writer, and takes it from all others.
fn claim(writer: &Writer<'_>, entries: &mut Vec<Entry>, new: &Value, found: Difference) {
    let changed = found.changed.unwrap_or_default();
    for entry in entries.iter_mut() {
        if let Some(removed) = &found.removed {
            set::subtract(&mut entry.fields, removed);
        }
        set::subtract(&mut entry.fields, &changed);
    }
    entries.retain(|entry| !entry.fields.is_empty());
    if changed.is_empty() {
        return;
    }
    let api_version = api_version(new);
    let now = time::seconds(writer.now);
    let own = entries.iter_mut().find(|e| e.is(Operation::Update, writer.manager, writer.subresource, api_version));
    match own {
        Some(own) => {
            set::unite(&mut own.fields, &changed);
            own.time = now;
        }
        None => entries.push(Entry {
            operation: Operation::Update,
            time: now,
            manager: writer.manager.to_owned(),
            api_version: api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            fields: changed,
        }),
    }
    managers::cap(entries);
}

/// The object as it would be, managed fields included. Where nothing changes it equals the live object.
pub fn apply(request: ApplyRequest<'_>) -> Result<Value, ApplyError> {
    let ApplyRequest { writer, live, config, .. } = request;
    let config = checked(&writer, config)?;
    let wanted = applied_fields(&writer, &config);
    let mut entries = live.map(|live| owners(&writer, live)).unwrap_or_default();
    let own = entries.iter().position(|e| e.is(Operation::Apply, writer.manager, writer.subresource, ""));
    let before = own.map(|own| entries.swap_remove(own));

    let mut merged = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    merge::merge(writer.schema, &mut merged, &config);
    if let Some(before) = &before {
        remove_given_up(writer.schema, &mut merged, &before.fields, &wanted, &entries);
    }
    let found = object_difference(&writer, live, &merged);
    take_over(&request, &mut entries, &found)?;

    let same = found.changed.is_none() && found.removed.is_none();
    let api_version = api_version(&config).to_owned();
    let time = match before {
        Some(before) if same && before.fields == wanted && before.api_version == api_version => before.time,
        _ => time::seconds(writer.now),
    };
    entries.push(Entry {
        operation: Operation::Apply,
        time,
        manager: writer.manager.to_owned(),
        api_version,
        subresource: writer.subresource.to_owned(),
        fields: wanted,
    });
    renew_last_applied(&request, &config, &mut merged);
    managers::store(&mut merged, entries);
    Ok(merged)
}

/// The owners of an object about to be applied to. One that has none yet belongs to a manager of that name.
fn owners(writer: &Writer<'_>, live: &Value) -> Vec<Entry> {
    let entries = managers::parse(live["metadata"]["managedFields"].clone()).unwrap_or_default();
    if !entries.is_empty() {
        return entries;
    }
    let fields = object_difference(writer, None, live).changed.unwrap_or_default();
    vec![Entry {
        operation: Operation::Update,
        time: time::seconds(writer.now),
        manager: BEFORE_FIRST_APPLY.to_owned(),
        api_version: api_version(live).to_owned(),
        subresource: String::new(),
        fields,
    }]
}

/// The configuration without nulls, or why it can't be applied.
fn checked(writer: &Writer<'_>, config: &Value) -> Result<Value, ApplyError> {
    if !config["metadata"]["managedFields"].is_null() {
        return Err(ApplyError::Malformed { message: "metadata.managedFields must be nil".to_owned() });
    }
    let mut config = config.clone();
    if let Some(ty) = writer.schema {
        let errors: Vec<String> = schema::check(ty, &config).iter().map(misfit).collect();
        match errors.as_slice() {
            [] => {}
            [only] => return Err(untyped(&config, only)),
            many => return Err(untyped(&config, &format!("errors:\n  {}", many.join("\n  ")))),
        }
        schema::prune(ty, &mut config);
    }
    if let Some(why) = walk::unmergeable(writer.schema, &config) {
        return Err(untyped(&config, &why));
    }
    if let Some(config) = config.as_object_mut() {
        config.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    }
    Ok(config)
}

pub(super) fn misfit(error: &SchemaError) -> String {
    match error {
        SchemaError::UnknownField { path } => format!(".{path}: field not declared in schema"),
        other => other.to_string(),
    }
}

fn untyped(config: &Value, what: &str) -> ApplyError {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&config["metadata"]["namespace"]), text(&config["metadata"]["name"]));
    let (api_version, kind) = (api_version(config), text(&config["kind"]));
    ApplyError::Untyped {
        message: format!(
            "failed to create typed patch object ({namespace}/{name}; {api_version}, Kind={kind}): {what}"
        ),
    }
}

/// Removes what this manager applied before, applies no longer, and nobody else owns.
fn remove_given_up(ty: Type<'_>, merged: &mut Value, before: &Set, wanted: &Set, others: &[Entry]) {
    let mut given_up = before.clone();
    set::subtract(&mut given_up, wanted);
    if given_up.is_empty() {
        return;
    }
    let mut owned = wanted.clone();
    // Whoever applies names the object. That is in nobody's list, and still keeps the metadata where what is given up
    // was the last that somebody owned of it.
    if let Value::Object(named) = serde_json::json!({"f:metadata": {"f:name": {}}}) {
        set::unite(&mut owned, &named);
    }
    for other in others {
        set::unite(&mut owned, &other.fields);
    }
    merge::prune(ty, merged, before, &owned);
}

/// Takes what changed from the other managers, where that is allowed.
fn take_over(request: &ApplyRequest<'_>, entries: &mut Vec<Entry>, found: &Difference) -> Result<(), ApplyError> {
    if let Some(changed) = &found.changed {
        if !request.force {
            let allowed = allowed_conflicts(request);
            let mut conflicts = Vec::new();
            for entry in entries.iter() {
                let mut contested = set::intersect(&entry.fields, changed);
                set::subtract(&mut contested, &allowed);
                let manager = entry.describe();
                let fields = set::paths(&contested).into_iter();
                conflicts.extend(fields.map(|field| Conflict { manager: manager.clone(), field }));
            }
            if !conflicts.is_empty() {
                conflicts.sort_by(|a, b| (&a.manager, &a.field).cmp(&(&b.manager, &b.field)));
                return Err(ApplyError::Conflicts { conflicts });
            }
        }
        entries.iter_mut().for_each(|entry| set::subtract(&mut entry.fields, changed));
    }
    if let Some(removed) = &found.removed {
        entries.iter_mut().for_each(|entry| set::subtract(&mut entry.fields, removed));
    }
    entries.retain(|entry| !entry.fields.is_empty());
    Ok(())
}

/// A kubectl that goes over from client-side to server-side apply owns what it last applied, whatever its name was.
fn allowed_conflicts(request: &ApplyRequest<'_>) -> Set {
    let last: Option<Value> = (request.writer.manager == "kubectl")
        .then(|| request.live?["metadata"]["annotations"][LAST_APPLIED].as_str())
        .flatten()
        .and_then(|text| serde_json::from_str(text).ok());
    last.map(|last| applied_fields(&request.writer, &last)).unwrap_or_default()
}

/// Keeps the annotation of client-side apply true, so that kubectl can go back to it.
fn renew_last_applied(request: &ApplyRequest<'_>, config: &Value, merged: &mut Value) {
    let live = request.live.map(|live| &live["metadata"]["annotations"][LAST_APPLIED]);
    if request.writer.manager != "kubectl" || !live.is_some_and(Value::is_string) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    merged["metadata"]["annotations"][LAST_APPLIED] = Value::String(format!("{config}\n"));
}

fn api_version(object: &Value) -> &str {
    object["apiVersion"].as_str().unwrap_or_default()
}

/// The fields of a configuration that its manager will own.
fn applied_fields(writer: &Writer<'_>, config: &Value) -> Set {
    let mut fields = walk::fields_of(writer.schema, config, Parents::Elements);
    fields.remove("f:apiVersion");
    fields.remove("f:kind");
    if let Some(metadata) = fields.get_mut("f:metadata").and_then(Value::as_object_mut) {
        UNOWNED_METADATA.iter().for_each(|name| drop(metadata.remove(&walk::field_key(name))));
        if metadata.is_empty() {
            fields.remove("f:metadata");
        }
    }
    writer.reset.iter().for_each(|path| set::cut(&mut fields, path));
    fields
}

/// What differs between two objects in fields that can have owners.
fn object_difference(writer: &Writer<'_>, old: Option<&Value>, new: &Value) -> Difference {
    let empty = Map::new();
    let (old, Some(new)) = (old.and_then(Value::as_object).unwrap_or(&empty), new.as_object()) else {
        return Difference::default();
    };
    let metadata = |object| -> &Map<String, Value> {
        let object: &Map<String, Value> = object;
        object.get("metadata").and_then(Value::as_object).unwrap_or(&empty)
    };

    let mut skip = vec!["apiVersion", "kind", "metadata"];
    skip.extend(writer.reset.iter().filter(|path| path.len() == 1).map(|path| path[0]));
    let mut found = walk::map_difference(writer.schema, old, new, &skip);
    let ty = walk::child(writer.schema, "metadata");
    let inner = walk::map_difference(ty, metadata(old), metadata(new), UNOWNED_METADATA);
    put_below_metadata(&mut found.changed, inner.changed);
    put_below_metadata(&mut found.removed, inner.removed);
    for path in writer.reset.iter().filter(|path| path.len() > 1) {
        for set in [&mut found.changed, &mut found.removed] {
            if let Some(fields) = set {
                set::cut(fields, path);
                *set = mem::take(set).filter(|fields| !fields.is_empty());
            }
        }
    }
    found
}

fn put_below_metadata(set: &mut Option<Set>, metadata: Option<Set>) {
    if let Some(metadata) = metadata {
        set.get_or_insert_default().insert("f:metadata".to_owned(), Value::Object(metadata));
    }
}
