//! The simple paths into an object that a definition names: `.spec.replicas`.

use serde_json::Value;

use crate::value::{Object, int, text};

/// Where the scale subresource reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

impl ScalePaths {
    pub(super) fn of(scale: &Value) -> Option<Self> {
        scale.as_object()?;
        let path = |key: &str| text(&scale[key]).to_owned();
        Some(Self {
            spec_replicas: path("specReplicasPath"),
            status_replicas: path("statusReplicasPath"),
            label_selector: Some(path("labelSelectorPath")).filter(|path| !path.is_empty()),
        })
    }

    /// The replicas that are wished for; `None` where the object does not say.
    pub fn wanted(&self, object: &Value) -> Option<i64> {
        find(object, &self.spec_replicas)?.as_i64()
    }

    /// The replicas there are; 0 where the object does not say.
    pub fn observed(&self, object: &Value) -> i64 {
        find(object, &self.status_replicas).map_or(0, int)
    }

    /// The label selector, as text; empty where there is none.
    pub fn selector<'a>(&self, object: &'a Value) -> &'a str {
        self.label_selector.as_deref().and_then(|path| find(object, path)).map_or("", text)
    }

    /// Wishes for so many replicas. Objects on the way that are missing are made; `false` where something else stands
    /// there.
    pub fn want(&self, object: &mut Value, replicas: i64) -> bool {
        let mut at = object;
        for step in steps(&self.spec_replicas) {
            if at.is_null() {
                *at = Value::Object(Object::new());
            }
            let Some(map) = at.as_object_mut() else { return false };
            at = map.entry(step).or_insert(Value::Null);
        }
        *at = replicas.into();
        true
    }
}

/// The steps of a path of plain names.
pub(crate) fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('.').split('.').filter(|step| !step.is_empty())
}

pub(crate) fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let found = steps(path).try_fold(object, |value, step| value.get(step))?;
    (!found.is_null()).then_some(found)
}

/// A value as field selectors compare it: strings as they are, numbers and booleans as JSON writes them.
pub(super) fn selectable(object: &Value, path: &str) -> String {
    match find(object, path) {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => String::new(),
    }
}
