//! One resource's rules as data: a constant per resource, which says only where it differs.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{Dependents, Part, Strategy};
use crate::{
    field::FieldError,
    meta::{self, NameRule},
    value::{keep, same},
};

pub(super) type Errors = Vec<FieldError>;

/// What counts as a change of the wished-for state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// The resource has no generation.
    Never,
    /// `spec` alone.
    Spec,
    /// Everything but `metadata` and `status`.
    Content,
}

/// The hooks of one resource. `Rules::DATA` and `Rules::WITH_STATUS` are the two starting points.
pub(super) struct Rules {
    pub name_rule: NameRule,
    /// The status that a new object begins with; `None` where `status` is not a subresource.
    pub initial_status: Option<fn() -> Value>,
    /// True where a client may bring the status of a new object along.
    pub status_on_create: bool,
    /// Subresources beside `status` whose writes change the status, such as `approval`.
    pub subresource_writes_status: &'static [&'static str],
    pub generation: Generation,
    pub default: fn(&mut Value),
    /// Runs after status and generation are set.
    pub create: fn(&mut Value),
    /// Runs after metadata and status are kept, before the generation is compared.
    pub update: fn(&mut Value, &Value, Part),
    /// What must hold for a new object and after a change of its main part.
    pub validate: fn(&Value, &mut Errors),
    /// What a change may not do.
    pub validate_update: fn(&Value, &Value, Part, &mut Errors),
    pub warnings: fn(&Value) -> Vec<String>,
    pub fields: &'static [&'static str],
    pub field: for<'a> fn(&'a Value, &str) -> Cow<'a, str>,
    /// How long a deletion waits, given what the client asked for.
    pub grace: fn(&Value, Option<i64>) -> Option<i64>,
    pub dependents: Dependents,
    pub create_on_update: bool,
    pub unconditional_update: bool,
}

impl Rules {
    /// An object without status and without generation, such as a ConfigMap.
    pub(super) const DATA: Self = Self {
        name_rule: NameRule::Subdomain,
        initial_status: None,
        status_on_create: false,
        subresource_writes_status: &[],
        generation: Generation::Never,
        default: |_| {},
        create: |_| {},
        update: |_, _, _| {},
        validate: |_, _| {},
        validate_update: |_, _, _, _| {},
        warnings: |_| Vec::new(),
        fields: &[],
        field: by_path,
        grace: |_, _| None,
        dependents: Dependents::Deleted,
        create_on_update: false,
        unconditional_update: true,
    };

    /// An object whose spec has a generation and whose status is a subresource, such as a Deployment.
    pub(super) const WITH_STATUS: Self =
        Self { initial_status: Some(|| json!({})), generation: Generation::Spec, ..Self::DATA };

    fn changed(&self, new: &Value, old: &Value) -> bool {
        match self.generation {
            Generation::Never => false,
            Generation::Spec => !same(&new["spec"], &old["spec"]),
            Generation::Content => {
                let content = |key: &&String| !matches!(key.as_str(), "metadata" | "status" | "apiVersion" | "kind");
                let keys = |value: &Value| -> Vec<String> {
                    value.as_object().map(|map| map.keys().filter(content).cloned().collect()).unwrap_or_default()
                };
                keys(new).iter().chain(&keys(old)).any(|key| !same(&new[key.as_str()], &old[key.as_str()]))
            }
        }
    }

    /// An expression that an earlier version took, and that does not compile any more, does not stand in the way of
    /// changes beside it, as upstream has it.
    fn spare_stored_expressions(&self, old: &Value, errors: &mut Errors) {
        let of_compiler = |error: &FieldError| error.detail.contains("compilation failed: ");
        if errors.iter().any(of_compiler) {
            let mut before = Vec::new();
            (self.validate)(old, &mut before);
            let stood = |error: &FieldError| before.iter().any(|b| b.value == error.value && b.detail == error.detail);
            errors.retain(|error| !(of_compiler(error) && stood(error)));
        }
    }
}

impl Strategy for Rules {
    fn name_rule(&self) -> NameRule {
        self.name_rule
    }

    fn default(&self, object: &mut Value) {
        (self.default)(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        if let (Some(status), Some(object)) = (self.initial_status, object.as_object_mut())
            && !(self.status_on_create && object.contains_key("status"))
        {
            object.insert("status".into(), status());
        }
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
                meta.remove(key);
            }
            if self.generation != Generation::Never {
                meta.insert("generation".into(), 1.into());
            }
        }
        (self.create)(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, part: Part) {
        meta::prepare_update(new, old);
        match part {
            Part::Subresource("status") => keep_all_but_status(new, old),
            Part::Subresource(name) if self.subresource_writes_status.contains(&name) => {}
            Part::Main | Part::Subresource(_) if self.initial_status.is_some() => keep(new, old, "status"),
            Part::Main | Part::Subresource(_) => {}
        }
        (self.update)(new, old, part);
        if part != Part::Subresource("status") && self.changed(new, old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            if let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.insert("generation".into(), generation.into());
            }
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        (self.validate)(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value, part: Part) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if part == Part::Main {
            (self.validate)(new, &mut errors);
            self.spare_stored_expressions(old, &mut errors);
        }
        (self.validate_update)(new, old, part, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        (self.warnings)(object)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        self.fields
    }

    fn field<'a>(&self, object: &'a Value, field: &str) -> Cow<'a, str> {
        (self.field)(object, field)
    }

    fn deletion_grace_seconds(&self, object: &Value) -> Option<i64> {
        (self.grace)(object, None)
    }

    fn deletion_grace(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        (self.grace)(object, requested)
    }

    fn dependents(&self) -> Dependents {
        self.dependents
    }

    fn allow_create_on_update(&self) -> bool {
        self.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        self.unconditional_update
    }
}

/// A write of `status` changes status and, as upstream lets it, labels, annotations and finalizers.
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let keys: Vec<String> = [&*new, old]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .filter(|key| !matches!(key.as_str(), "status" | "metadata"))
        .cloned()
        .collect();
    for key in keys {
        keep(new, old, &key);
    }
}

/// The value at a dotted path as field selectors see it.
pub(super) fn by_path<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let mut value = object;
    for step in field.split('.') {
        value = &value[step];
    }
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        Value::Number(number) => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(""),
    }
}
