//! ValidatingAdmissionPolicy: what its expressions say of a request.

use knarr_cel::{Budget, Composite, Value as CelValue, Variables};
use serde_json::Value;

use super::{
    conditions::Conditions,
    environment::{NAMESPACE_OBJECT, Scope, env},
    expression::{Expression, Failure, Wanted},
    input::Input,
    variables::{Composition, uses},
};
use crate::value::{is_empty, is_set, items, text};

/// A message that an expression makes is no longer.
const MAX_MESSAGE_BYTES: usize = 5 * 1024;

/// A policy, compiled. What does not compile is an error of each request that the policy is for.
#[derive(Debug)]
pub struct ValidatingPolicy {
    pub conditions: Conditions,
    /// `failurePolicy` is `Ignore`.
    pub ignores_failure: bool,
    /// Some expression asks about the Namespace of a request.
    pub sees_namespace: bool,
    variables: Vec<Composite>,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admit,
    Deny,
}

/// The kinds of error that upstream's metrics know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    None,
    Compile,
    OutOfBudget,
    Invalid,
}

/// What one validation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// What went wrong, or what is wrong; empty where nothing is.
    pub message: String,
    /// Of the Status; empty: `Invalid`.
    pub reason: String,
}

/// What an audit annotation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    Publish(String),
    /// It has no value.
    Exclude,
    Error(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotated {
    pub key: String,
    pub annotation: Annotation,
}

/// All that a policy says of a request, with one set of parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    pub decisions: Vec<Decision>,
    pub annotations: Vec<Annotated>,
}

impl Decision {
    fn admit() -> Self {
        Self { verdict: Verdict::Admit, message: String::new(), reason: String::new() }
    }

    /// True where the request is admitted although something went wrong.
    pub fn is_failed_admission(&self) -> bool {
        self.verdict == Verdict::Admit && !self.message.is_empty()
    }

    pub fn error_type(&self) -> ErrorType {
        match self.message.as_str() {
            "" => ErrorType::None,
            message if message.starts_with("compilation") => ErrorType::Compile,
            message if message.starts_with("validation failed due to running out of cost budget") => {
                ErrorType::OutOfBudget
            }
            _ => ErrorType::Invalid,
        }
    }
}

impl ErrorType {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::None => "no_error",
            ErrorType::Compile => "compile_error",
            ErrorType::OutOfBudget => "out_of_budget",
            ErrorType::Invalid => "invalid_error",
        }
    }
}

impl ValidatingPolicy {
    pub fn compile(spec: &Value) -> Self {
        let scope = Scope { params: is_set(&spec["paramKind"]), authorizer: true, patches: false };
        let composition = Composition::of(env(scope), spec);
        let full = composition.env();
        let plain = composition.extend(env(Scope { authorizer: false, ..scope }));
        let validation = |one: &Value| Validation {
            expression: Expression::compile(&full, text(&one["expression"]), Wanted::Bool),
            message: text(&one["message"]).to_owned(),
            message_expression: (!is_empty(&one["messageExpression"]))
                .then(|| Expression::compile(&plain, text(&one["messageExpression"]), Wanted::String)),
            reason: text(&one["reason"]).to_owned(),
        };
        let annotation = |one: &Value| {
            let source = text(&one["valueExpression"]).trim();
            (text(&one["key"]).to_owned(), Expression::compile(&full, source, Wanted::StringOrNull))
        };
        let mut policy = Self {
            conditions: Conditions::compile(&spec["matchConditions"], scope.params),
            ignores_failure: spec["failurePolicy"] == "Ignore",
            sees_namespace: false,
            validations: items(&spec["validations"]).iter().map(validation).collect(),
            annotations: items(&spec["auditAnnotations"]).iter().map(annotation).collect(),
            variables: composition.list,
        };
        policy.sees_namespace = policy.uses_namespace();
        policy
    }

    fn uses_namespace(&self) -> bool {
        let validations = self.validations.iter();
        let expressions = validations.flat_map(|one| [&one.expression].into_iter().chain(&one.message_expression));
        self.conditions.uses_namespace()
            || uses(&self.variables, NAMESPACE_OBJECT)
            || expressions.chain(self.annotations.iter().map(|(_, one)| one)).any(|one| one.uses(NAMESPACE_OBJECT))
    }

    /// The conditions are asked first; nothing is said of a request that they do not match.
    pub fn judge(&self, input: &Input<'_>) -> Judgement {
        match self.conditions.matches(input).matches {
            Ok(true) => {}
            Ok(false) => return Judgement::default(),
            // Where failures are ignored the conditions do not match.
            Err(_) if self.ignores_failure => return Judgement::default(),
            Err(why) => return self.fail(why),
        }
        match self.evaluate(input) {
            Ok(judgement) => judgement,
            Err(why) => self.fail(why),
        }
    }

    fn fail(&self, why: String) -> Judgement {
        Judgement { decisions: vec![self.failed(why)], annotations: Vec::new() }
    }

    fn failed(&self, message: String) -> Decision {
        let verdict = if self.ignores_failure { Verdict::Admit } else { Verdict::Deny };
        Decision { verdict, message, reason: String::new() }
    }

    /// An error where nothing more may be spent.
    fn evaluate(&self, input: &Input<'_>) -> Result<Judgement, String> {
        let mut budget = Budget::kubernetes();
        let variables = input.variables(&self.variables);
        let mut results = Vec::with_capacity(self.validations.len());
        for validation in &self.validations {
            match validation.expression.evaluate(&variables, &mut budget) {
                Err(Failure::Spent(why)) => return Err(why),
                Err(Failure::Failed(why)) => results.push(Err(why)),
                Ok(value) => results.push(Ok(matches!(value, CelValue::Bool(true)))),
            }
        }
        let decisions = self.decide(results, input, &mut budget);
        let annotations = self.annotate(input)?;
        Ok(Judgement { decisions, annotations })
    }

    fn decide(&self, results: Vec<Result<bool, String>>, input: &Input<'_>, budget: &mut Budget) -> Vec<Decision> {
        // Most requests are fine: then no message is made.
        let variables = std::cell::OnceCell::new();
        let mut spent = None;
        let all = self.validations.iter().zip(results);
        all.map(|(validation, result)| match result {
            Ok(true) => Decision::admit(),
            Err(why) => self.failed(why),
            Ok(false) => {
                let variables = variables.get_or_init(|| input.variables(&self.variables));
                let made = match &spent {
                    None => validation.made_message(variables, budget),
                    Some(why) => Err(String::clone(why)),
                };
                match made {
                    Ok(made) => validation.denial(made),
                    Err(why) => {
                        let message = format!("failed messageExpression: {why}");
                        spent = Some(why);
                        self.failed(message)
                    }
                }
            }
        })
        .collect()
    }

    fn annotate(&self, input: &Input<'_>) -> Result<Vec<Annotated>, String> {
        if self.annotations.is_empty() {
            return Ok(Vec::new());
        }
        let mut budget = Budget::kubernetes();
        let variables = input.variables(&self.variables);
        let mut all = Vec::with_capacity(self.annotations.len());
        for (key, expression) in &self.annotations {
            let annotation = match expression.evaluate(&variables, &mut budget) {
                Err(Failure::Spent(why)) => return Err(why),
                Err(Failure::Failed(_)) if self.ignores_failure => Annotation::Exclude,
                Err(Failure::Failed(why)) => Annotation::Error(why),
                Ok(CelValue::String(value)) => match value.trim() {
                    "" => Annotation::Exclude,
                    value => Annotation::Publish(value.to_owned()),
                },
                Ok(_) => Annotation::Exclude,
            };
            all.push(Annotated { key: key.clone(), annotation });
        }
        Ok(all)
    }
}

impl Validation {
    /// What `messageExpression` says; none where it says nothing usable. An error: nothing more may be spent.
    fn made_message(&self, variables: &Variables<'_>, budget: &mut Budget) -> Result<Option<String>, String> {
        let Some(expression) = &self.message_expression else { return Ok(None) };
        match expression.evaluate(variables, budget) {
            Ok(CelValue::String(made)) => {
                let made = made.trim();
                let is_usable = !made.is_empty() && made.len() <= MAX_MESSAGE_BYTES && !made.contains('\n');
                Ok(is_usable.then(|| made.to_owned()))
            }
            Err(Failure::Spent(why)) => Err(why),
            Ok(_) | Err(Failure::Failed(_)) => Ok(None),
        }
    }

    fn denial(&self, made: Option<String>) -> Decision {
        let written = Some(self.message.trim()).filter(|written| !written.is_empty()).map(str::to_owned);
        let by_default = || format!("failed expression: {}", self.expression.source.trim());
        let message = made.or(written).unwrap_or_else(by_default);
        Decision { verdict: Verdict::Deny, message, reason: self.reason.clone() }
    }
}
