//! Which objects of a resource a list, a watch or a deletion is about.

use knarr_api::{
    field::quote,
    registry::Resource,
    selector::{FieldSelector, LabelSelector, Operator, Requirement},
    status::ApiError,
    strategy,
};

use crate::{
    cache::{Topic, object_key},
    contract::Stored,
    custom::Custom,
    route::Query,
    write::rules,
};

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    /// An index into the resource's selectable fields.
    Extracted(usize),
}

#[derive(Clone, Debug)]
pub struct Selection {
    /// Empty for all.
    pub namespace: String,
    labels: LabelSelector,
    fields: Vec<(Field, bool, String)>,
}

impl Selection {
    pub fn parse(
        resource: &'static Resource,
        custom: Option<&Custom>,
        namespace: &str,
        query: &Query,
    ) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(query.get("labelSelector"))
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let asked = FieldSelector::parse(query.get("fieldSelector"))
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let known = rules(resource.stored_as()).selectable_fields();
        let extracted = |field: &str| match custom {
            Some(custom) => custom.field(field),
            None => known.iter().position(|known| *known == strategy::stored_field(resource, field)),
        };
        let mut fields = Vec::new();
        for requirement in asked.requirements() {
            let field = match requirement.field.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                other if custom.is_some_and(|custom| !custom.reads_stored_fields()) => {
                    // What is indexed are the stored objects' fields, which a webhook may have from elsewhere.
                    let version = custom.map_or("", |custom| custom.stored.version);
                    return Err(ApiError::bad_request(format!(
                        "field label not supported: {other}; a webhook converts these objects, and fields are \
                         selected in the stored version {version} only"
                    )));
                }
                other => match extracted(other) {
                    Some(index) => Field::Extracted(index),
                    None => return Err(unknown_field(custom.is_none() && known.is_empty(), other)),
                },
            };
            fields.push((field, requirement.equal, requirement.value.clone()));
        }
        Ok(Self { namespace: namespace.to_owned(), labels, fields })
    }

    /// The one name that can be selected, where there is only one.
    pub fn name(&self) -> Option<&str> {
        self.fields.iter().find_map(|(field, equal, name)| match field {
            Field::Name if *equal => Some(name.as_str()),
            _ => None,
        })
    }

    /// What a watcher of this selection is woken by: the narrowest thing that every match has in common.
    pub fn topic(&self, resource: &Resource) -> Topic {
        if let Some(name) = self.name()
            && (!self.namespace.is_empty() || !resource.namespaced)
        {
            return Topic::Key(object_key(&self.namespace, name).into());
        }
        let exact = self.fields.iter().find_map(|(field, equal, value)| match field {
            Field::Extracted(index) if *equal && !value.is_empty() => Some(Topic::Field(*index, value.as_str().into())),
            _ => None,
        });
        let label =
            || self.labels.requirements().iter().find_map(|requirement| exact_label(&self.namespace, requirement));
        let whole = || match self.namespace.as_str() {
            "" => Topic::Everything,
            namespace => Topic::Namespace(namespace.into()),
        };
        exact.or_else(label).unwrap_or_else(whole)
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Labels and fields; the namespace too.
    pub fn matches(&self, object: &Stored) -> bool {
        (self.namespace.is_empty() || object.namespace() == self.namespace) && self.selects(object)
    }

    fn selects(&self, object: &Stored) -> bool {
        let value = |field: Field| match field {
            Field::Name => object.name(),
            Field::Namespace => object.namespace(),
            Field::Extracted(index) => object.fields.get(index).map_or("", |value| value),
        };
        let label = |key: &str| {
            let at = object.labels.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
            Some(&*object.labels[at].1)
        };
        self.fields.iter().all(|(field, equal, wanted)| (value(*field) == wanted) == *equal)
            && (self.labels.is_empty() || self.labels.matches(label))
    }
}

/// The topic of a requirement that every match has one and the same label for.
fn exact_label(namespace: &str, requirement: &Requirement) -> Option<Topic> {
    match (requirement.operator, &*requirement.values) {
        (Operator::In, [value]) => Some(Topic::Label {
            namespace: namespace.into(),
            key: requirement.key.as_str().into(),
            value: value.as_str().into(),
        }),
        _ => None,
    }
}

fn unknown_field(has_none: bool, field: &str) -> ApiError {
    if has_none {
        return ApiError::bad_request(format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            quote(field)
        ));
    }
    ApiError::bad_request(format!("field label not supported: {field}"))
}
