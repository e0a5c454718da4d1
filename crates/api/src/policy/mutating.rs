//! MutatingAdmissionPolicy: what its expressions make of an object.

use knarr_cel::{Budget, Composite};
use serde_json::Value;

use super::{
    conditions::Conditions,
    environment::{NAMESPACE_OBJECT, Scope, env},
    expression::{Expression, Failure, Wanted},
    input::Input,
    patches,
    variables::{Composition, uses},
};
use crate::{
    schema::TypeRef,
    value::{is_set, items, text},
};

/// A policy, compiled. What does not compile is an error of each request that the policy is for.
#[derive(Debug)]
pub struct MutatingPolicy {
    pub conditions: Conditions,
    /// `failurePolicy` is `Ignore`.
    pub ignores_failure: bool,
    /// `reinvocationPolicy` is `IfNeeded`.
    pub reinvoked: bool,
    /// Some expression asks about the Namespace of a request.
    pub sees_namespace: bool,
    variables: Vec<Composite>,
    mutations: Vec<(Form, Expression)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Configuration,
    JsonPatch,
}

impl MutatingPolicy {
    pub fn compile(spec: &Value) -> Self {
        let scope = Scope { params: is_set(&spec["paramKind"]), authorizer: true, patches: false };
        let composition = Composition::of(env(scope), spec);
        let constructing = composition.extend(env(Scope { patches: true, ..scope }));
        let mutation = |one: &Value| {
            let (form, key, wanted) = match text(&one["patchType"]) {
                "JSONPatch" => (Form::JsonPatch, "jsonPatch", Wanted::JsonPatch),
                _ => (Form::Configuration, "applyConfiguration", Wanted::Configuration),
            };
            (form, Expression::compile(&constructing, text(&one[key]["expression"]).trim(), wanted))
        };
        let mut policy = Self {
            sees_namespace: false,
            conditions: Conditions::compile(&spec["matchConditions"], scope.params),
            ignores_failure: spec["failurePolicy"] == "Ignore",
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            mutations: items(&spec["mutations"]).iter().map(mutation).collect(),
            variables: composition.list,
        };
        policy.sees_namespace = policy.uses_namespace();
        policy
    }

    fn uses_namespace(&self) -> bool {
        self.conditions.uses_namespace()
            || uses(&self.variables, NAMESPACE_OBJECT)
            || self.mutations.iter().any(|(_, one)| one.uses(NAMESPACE_OBJECT))
    }

    /// How many changes it makes, one after the other.
    pub fn mutations(&self) -> usize {
        self.mutations.len()
    }

    /// The object after one of the changes. `schema`: that of the object as the policy sees it; `None` where it has none.
    pub fn mutate(&self, at: usize, input: &Input<'_>, schema: Option<TypeRef<'_>>) -> Result<Value, String> {
        let (form, expression) = &self.mutations[at];
        if let Err(why) = &expression.program {
            return Err(why.clone());
        }
        let variables = input.variables(&self.variables);
        let value = expression.evaluate(&variables, &mut Budget::kubernetes()).map_err(Failure::text)?;
        match form {
            Form::Configuration => patches::configure(&value, input.object, schema),
            Form::JsonPatch => patches::patch(&value, input.object),
        }
    }
}
