//! `matchConditions` of policies and webhooks: what a request must be beside what rules and selectors say.

use knarr_cel::{Budget, Value as CelValue};
use serde_json::Value;

use super::{
    environment::{NAMESPACE_OBJECT, Scope, env},
    expression::{Expression, Failure, Wanted},
    input::Input,
};
use crate::value::{items, text};

/// What all conditions of a policy or webhook may cost together: a quarter of what its validations may.
const BUDGET: u64 = 2_500_000;
const PER_EXPRESSION: u64 = 1_000_000;

/// The conditions of one policy or webhook, compiled.
#[derive(Debug, Default)]
pub struct Conditions {
    all: Vec<Expression>,
}

/// What conditions say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// How many of them could not be evaluated.
    pub failed: usize,
    /// An error where none is false and some could not be evaluated.
    pub matches: Result<bool, String>,
}

impl Conditions {
    /// `has_params`: the policy has a `paramKind`; webhooks have none.
    pub fn compile(conditions: &Value, has_params: bool) -> Self {
        let conditions = items(conditions);
        if conditions.is_empty() {
            return Self::default();
        }
        let env = env(Scope { params: has_params, authorizer: true, patches: false });
        let compile = |one: &Value| Expression::compile(&env, text(&one["expression"]).trim(), Wanted::Bool);
        Self { all: conditions.iter().map(compile).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// True where the Namespace of a request is asked about.
    pub fn uses_namespace(&self) -> bool {
        self.all.iter().any(|one| one.uses(NAMESPACE_OBJECT))
    }

    /// All must be true. One that is false decides, whatever comes of the others.
    pub fn matches(&self, input: &Input<'_>) -> Matched {
        if self.is_empty() {
            return Matched { failed: 0, matches: Ok(true) };
        }
        let variables = input.variables(&[]);
        let mut budget = Budget::new(BUDGET, PER_EXPRESSION);
        let (mut errors, mut is_false) = (Vec::new(), false);
        for condition in &self.all {
            match condition.evaluate(&variables, &mut budget) {
                Ok(value) => is_false |= matches!(value, CelValue::Bool(false)),
                Err(Failure::Spent(why)) => return Matched { failed: 0, matches: Err(why) },
                Err(Failure::Failed(why)) => errors.push(why),
            }
        }
        let failed = errors.len();
        errors.dedup();
        let matches = match errors.as_slice() {
            _ if is_false => Ok(false),
            [] => Ok(true),
            [only] => Err(only.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        };
        Matched { failed, matches }
    }
}
