//! CustomResourceDefinitions, understood: what a definition says about the objects of its kind
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>).
//!
//! A [`Definition`] is made from an object that validation let through (`strategy/definition` holds those rules), once
//! for every change of it. All that is asked of it afterwards is pure: pruning, defaults, validation, columns.

mod default;
mod definition;
mod format;
mod paths;
mod pattern;
mod prune;
mod rules;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::schema::Schema;
pub use paths::ScalePaths;
pub(crate) use paths::steps;
pub(crate) use pattern::compile;
pub(crate) use rules::{Rule, compile as compile_rule, embeds, field_path};

use crate::{
    field::{FieldError, FieldErrorKind},
    print::CustomPrinter,
    schema::{self as types, Table, TypeRef},
};

/// A CustomResourceDefinition, understood.
#[derive(Clone, Debug)]
pub struct Definition {
    pub group: String,
    pub names: Names,
    pub namespaced: bool,
    /// In the order of the definition, with those that are not served.
    pub versions: Vec<Version>,
    /// `spec.preserveUnknownFields`: only objects that an older API made have it; nothing is pruned then.
    pub preserves_unknown: bool,
    pub conversion: Conversion,
}

/// What the objects and their collection are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
}

/// How an object gets from one version to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Only `apiVersion` changes.
    None,
    /// Someone else is asked.
    Webhook {
        /// `spec.conversion.webhook.clientConfig`: a `url` or a `service`, and the `caBundle`.
        client: Value,
        /// The versions of ConversionReview that it understands, the preferred one first.
        review_versions: Vec<String>,
    },
}

/// One version of a custom resource.
#[derive(Clone, Debug)]
pub struct Version {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    /// What whoever uses this version is warned of.
    pub deprecation: Option<String>,
    pub has_status: bool,
    pub scale: Option<ScalePaths>,
    /// Paths as field selectors name them, without the leading dot: `spec.color`.
    pub selectable_fields: Vec<String>,
    preserves_unknown: bool,
    /// `openAPIV3Schema` as JSON: only documents show what is not in `rules`, and as text it is a fourth as big.
    written: Arc<str>,
    table: Arc<Table>,
    rules: Arc<Schema>,
    /// `x-kubernetes-validations`; none where there are none.
    validator: Option<Arc<rules::Validator>>,
    printer: CustomPrinter,
}

impl Definition {
    /// Reads a definition that passed validation. An error says what kept it from being understood.
    pub fn of(crd: &Value) -> Result<Self, String> {
        definition::read(crd)
    }

    /// The version that objects are stored in.
    pub fn storage_version(&self) -> &Version {
        // `of` refuses a definition without one.
        self.versions.iter().find(|version| version.storage).unwrap_or(&self.versions[0])
    }

    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }
}

impl Version {
    /// The types, for apply, patches and what else works on built-ins and custom resources alike.
    pub fn schema(&self) -> Option<TypeRef<'_>> {
        Some(TypeRef::new(&self.table, 0))
    }

    /// Why the object can't be read at all: `apiVersion`, `kind` and `metadata` have the types they have everywhere.
    ///
    /// Everything else is the schema's, and [`Version::validate`] says what is wrong with it.
    pub fn unreadable(&self, object: &Value) -> Option<String> {
        let ty = self.schema()?;
        ["apiVersion", "kind", "metadata"].into_iter().find_map(|name| {
            let part = object.get(name)?;
            let errors = types::check(ty.child(name)?, part);
            errors.iter().find(|error| error.is_fatal()).map(ToString::to_string)
        })
    }

    /// Drops the fields that the schema does not know and says which they were, as strict validation names them.
    ///
    /// In the order of upstream: those of the object, sorted, then those of `metadata`, which is pruned even where
    /// everything else is kept.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(&self.rules, object, self.preserves_unknown)
    }

    /// Fills in defaults, as deep as there are objects to hold them; a null that may not be one is defaulted or goes.
    ///
    /// Upstream does this with what a client sends and with what is read from the store.
    pub fn default(&self, object: &mut Value) {
        default::fill(&self.rules, object);
    }

    /// What is wrong with the object by its schema. On update, what was wrong before and did not change is let through.
    ///
    /// The object has been pruned and defaulted; its `metadata` is checked by who checks everyone's.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = validate::check(&self.rules, object, old);
        errors.extend(validate::embedded(&self.rules, object));
        let lists = validate::lists(&self.rules, object);
        if !lists.is_empty() && old.is_none_or(|old| validate::lists(&self.rules, old).is_empty()) {
            errors.extend(lists);
        }
        errors.extend(self.scale.iter().flat_map(|scale| validate::scale(scale, object)));
        if let Some(validator) = &self.validator {
            errors.extend(match errors.iter().any(is_blocking) {
                true => vec![unchecked()],
                false => rules::check(validator, object, old),
            });
        }
        errors
    }

    /// `openAPIV3Schema` as its author wrote it, in JSON; null where there is none.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    pub(crate) fn preserves_unknown(&self) -> bool {
        self.preserves_unknown
    }

    /// The columns and cells of tables.
    pub fn columns(&self) -> &CustomPrinter {
        &self.printer
    }

    /// The object's values in the order of [`Version::selectable_fields`]; empty where it has none.
    pub fn selectable(&self, object: &Value) -> Vec<String> {
        self.selectable_fields.iter().map(|field| paths::selectable(object, field)).collect()
    }
}

/// Rules are written for values of the right shape; what is not of it fails them for reasons that say nothing.
fn is_blocking(error: &FieldError) -> bool {
    use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
}

fn unchecked() -> FieldError {
    let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                  complete validation";
    let (field, detail) = ("<nil>".to_owned(), detail.to_owned());
    FieldError { kind: FieldErrorKind::Invalid, field, value: Some(Value::Null), detail }
}

/// What is wrong with a default by the rules of the schema it stands in.
pub(crate) fn check_default_rules(schema: &Value, default: &Value) -> Vec<FieldError> {
    rules::Validator::of_part(schema).map_or_else(Vec::new, |validator| rules::check(&validator, default, None))
}

/// What is wrong with a default by the schema it stands in.
pub(crate) fn check_default(schema: &Schema, default: &Value) -> Vec<FieldError> {
    let mut errors = validate::check(schema, default, None);
    errors.extend(validate::embedded(schema, default));
    errors
}

/// True for a default with fields that its own schema does not know.
pub(crate) fn has_unknown(schema: &Schema, default: &Value) -> bool {
    !prune::prune_part(schema, &mut default.clone()).is_empty()
}

/// True for a format that is checked, or at least read, in a schema of this type.
pub(crate) fn is_known_format(format: &str, kind: &str) -> bool {
    let types = if kind.is_empty() { Vec::new() } else { vec![kind.to_owned()] };
    format::Format::of(format, &types).is_some()
}
