use std::fmt;

use serde_json::{Map, Value};

use super::parse;
use crate::value::{entries, items, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label; a selector is the conjunction of its requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text is not in the selector grammar; the sentence is upstream's.
    #[error("{0}")]
    Syntax(String),
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
}

/// Selects objects by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// A `metav1.LabelSelector` that is missing selects nothing, an empty one everything.
    nothing: bool,
}

impl LabelSelector {
    pub const fn everything() -> Self {
        Self { requirements: Vec::new(), nothing: false }
    }

    pub const fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads the query parameter `labelSelector`: `app=web,tier in (a, b),!legacy`.
    pub fn parse(query: &str) -> Result<Self, SelectorError> {
        Ok(Self { requirements: parse::requirements(query)?, nothing: false })
    }

    /// Reads a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`); `null` selects nothing.
    pub fn from_value(selector: &Value) -> Result<Self, SelectorError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut this = Self::from_map(&selector["matchLabels"]);
        for expression in items(&selector["matchExpressions"]) {
            let operator = match text(&expression["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            this.requirements.push(Requirement {
                key: text(&expression["key"]).to_owned(),
                operator,
                values: items(&expression["values"]).iter().map(|value| text(value).to_owned()).collect(),
            });
        }
        Ok(this)
    }

    /// Reads a plain map, as a Service's or a ReplicationController's `spec.selector` is.
    pub fn from_map(labels: &Value) -> Self {
        let equals = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![text(value).to_owned()],
        };
        Self { requirements: entries(labels).map(equals).collect(), nothing: false }
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// True where every object is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Matches over any source of labels, such as a `BTreeMap`'s `get`.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Matches over the object at `metadata.labels`; anything else counts as no labels.
    pub fn matches_value(&self, labels: &Value) -> bool {
        let labels = labels.as_object();
        self.matches(|key| labels.and_then(|labels: &Map<String, Value>| labels.get(key)).and_then(Value::as_str))
    }

    /// Matches over key and value pairs in any order.
    pub fn matches_pairs<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> bool {
        self.matches(|key| pairs.clone().find(|(name, _)| *name == key).map(|(_, value)| value))
    }
}

impl Requirement {
    pub fn matches(&self, label: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|one| one == value);
        let number = |text: &str| text.parse::<i64>().ok();
        match (self.operator, label) {
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::In, label) => label.is_some_and(listed),
            (Operator::NotIn, label) => !label.is_some_and(listed),
            (Operator::GreaterThan | Operator::LessThan, None) => false,
            (operator, Some(label)) => match (number(label), self.values.first().and_then(|value| number(value))) {
                (Some(label), Some(bound)) if operator == Operator::GreaterThan => label > bound,
                (Some(label), Some(bound)) => label < bound,
                _ => false,
            },
        }
    }
}

impl fmt::Display for LabelSelector {
    /// The query form, as scale's `status.selector` carries it; values sorted as upstream sorts them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = || {
            let mut values: Vec<&str> = self.values.iter().map(String::as_str).collect();
            values.sort_unstable();
            values.join(",")
        };
        match self.operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In if self.values.len() == 1 => write!(f, "{key}={}", self.values[0]),
            Operator::In => write!(f, "{key} in ({})", list()),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{key}!={}", self.values[0]),
            Operator::NotIn => write!(f, "{key} notin ({})", list()),
            Operator::GreaterThan => write!(f, "{key}>{}", list()),
            Operator::LessThan => write!(f, "{key}<{}", list()),
        }
    }
}
