//! `variables` of a policy, in their order: each sees those before it, and its type is known to those after it.

use knarr_cel::{Composite, Env, ObjectType, Type};
use serde_json::Value;

use super::{
    environment::VARIABLES,
    expression::{Expression, Wanted},
};
use crate::value::{items, text};

/// True where one of them names a variable of the request.
pub(crate) fn uses(list: &[Composite], variable: &str) -> bool {
    list.iter().any(|one| one.program.as_ref().is_ok_and(|program| program.uses(variable)))
}

/// The variables of a policy while they are compiled, one after the other.
pub(crate) struct Composition {
    base: Env,
    types: Vec<(String, Type)>,
    pub list: Vec<Composite>,
}

impl Composition {
    pub fn new(base: Env) -> Self {
        Self { base, types: Vec::new(), list: Vec::new() }
    }

    /// All variables of a policy's spec.
    pub fn of(base: Env, spec: &Value) -> Self {
        let mut all = Self::new(base);
        for variable in items(&spec["variables"]) {
            // What does not compile is told by whoever asks for the variable.
            let _ = all.add(text(&variable["name"]), text(&variable["expression"]));
        }
        all
    }

    /// The error says why there is no such variable; its type is then not known.
    pub fn add(&mut self, name: &str, source: &str) -> Result<(), &str> {
        let program = Expression::compile(&self.env(), source, Wanted::Anything).program;
        let ty = program.as_ref().map_or(Type::Dyn, |program| program.result_type().clone());
        self.types.push((name.to_owned(), ty));
        self.list.push(Composite { name: name.to_owned(), program });
        match self.list.last().map(|added| &added.program) {
            Some(Err(why)) => Err(why),
            _ => Ok(()),
        }
    }

    /// What expressions after the last variable may name.
    pub fn env(&self) -> Env {
        self.extend(self.base.clone())
    }

    /// The variables so far, in another environment.
    pub fn extend(&self, base: Env) -> Env {
        base.declare(VARIABLES, ObjectType::declare("kubernetes.variables", self.types.iter().cloned()))
    }
}
