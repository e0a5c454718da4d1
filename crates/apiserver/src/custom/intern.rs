//! Rows of custom resources. Handlers know resources as rows that live as long as the process, built-ins being
//! statics. So a row that a definition brings is made once and never freed; a definition that comes again with the
//! same names finds the row that is there (`docs/decisions/0011-custom-resources.md` says what that costs).

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use knarr_api::{
    custom::{Definition, Version},
    registry::{Resource, Subresource, Verb},
};

const VERBS: &[Verb] = &[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];
const PART_VERBS: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

/// By everything that a row says, as text. A pure function's memory: nobody can tell whether a row was there before.
static ROWS: LazyLock<Mutex<HashMap<String, &'static Resource>>> = LazyLock::new(Mutex::default);

/// Under what the store keeps the objects of a definition. No built-in has a `/` there.
fn storage(definition: &Definition) -> String {
    format!("{}/{}", definition.group, definition.names.plural)
}

/// The row of one version of a definition.
pub fn row(definition: &Definition, version: &Version) -> &'static Resource {
    let names = &definition.names;
    let said = format!(
        "{:?} {:?} {} {:?} {} {}",
        definition.group,
        version.name,
        definition.namespaced,
        names,
        version.has_status,
        version.scale.is_some()
    );
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.entry(said).or_insert_with(|| Box::leak(Box::new(make(definition, version))))
}

fn make(definition: &Definition, version: &Version) -> Resource {
    let names = &definition.names;
    let (group, name, kind) = (text(&definition.group), text(&version.name), text(&names.kind));
    let mut subresources = Vec::new();
    if version.has_status {
        subresources.push(Subresource { name: "status", group, version: name, kind, verbs: PART_VERBS });
    }
    if version.scale.is_some() {
        let scale =
            Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: PART_VERBS };
        subresources.push(scale);
    }
    Resource {
        group,
        version: name,
        kind,
        custom_list_kind: text(&names.list_kind),
        plural: text(&names.plural),
        singular: text(&names.singular),
        namespaced: definition.namespaced,
        verbs: VERBS,
        short_names: texts(&names.short_names),
        categories: texts(&names.categories),
        subresources: Vec::leak(subresources),
        storage: text(&storage(definition)),
    }
}

fn text(text: &str) -> &'static str {
    String::leak(text.to_owned())
}

fn texts(list: &[String]) -> &'static [&'static str] {
    Vec::leak(list.iter().map(|one| text(one)).collect())
}

/// True for the rows that are made here.
pub fn is_custom(resource: &Resource) -> bool {
    resource.storage.contains('/')
}
