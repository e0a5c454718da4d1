//! Label selectors and field selectors: what they are, how the query string writes them, what they match.
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>)

mod field;
mod label;
mod parse;
#[cfg(test)]
mod tests;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement, SelectorError};
