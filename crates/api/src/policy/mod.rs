//! Admission policies and match conditions: what is written in them, compiled, and what comes of it for one request
//! (<https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>).
//!
//! Pure: who asks about which requests, where parameters come from and who may do what is given in. Words, order and
//! limits are upstream's (`apiserver/pkg/admission/plugin/policy`).

mod conditions;
mod environment;
mod expression;
mod input;
mod mutating;
mod patches;
#[cfg(test)]
mod tests;
mod types;
mod validating;
mod variables;

pub use self::{
    conditions::{Conditions, Matched},
    input::Input,
    mutating::MutatingPolicy,
    types::{Kinds, object_type, warnings},
    validating::{Annotated, Annotation, Decision, ErrorType, Judgement, ValidatingPolicy, Verdict},
};
pub(crate) use self::{
    environment::{Scope, env},
    expression::{Expression, Wanted},
    variables::Composition,
};
