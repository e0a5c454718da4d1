//! Compiled expressions, and what they are evaluated with.

use std::sync::{Arc, OnceLock};

use crate::{
    ast::Expr,
    authorizer::{Attributes, Authorizer},
    check::Checked,
    error::EvalError,
    estimate,
    eval::{Evaluator, constants},
    schema::Declaration,
    types::Type,
    value::{Authority, Opaque, Value},
};

/// What one expression may cost at most, in cel-go's units: about a tenth of a second upstream.
const PER_EXPRESSION: u64 = 1_000_000;
/// What all expressions of a request may cost together.
const PER_REQUEST: u64 = 10_000_000;

/// A compiled expression: kept by the caller, shared by threads, cheap to clone.
#[derive(Clone, Debug)]
pub struct Program {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub root: Expr,
    pub checked: Checked,
    /// By the nodes' ids: what is the same each time, and costs nothing.
    pub constants: Vec<Option<Value<'static>>>,
}

/// What may still be spent.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    remaining: u64,
    per_expression: u64,
}

impl Budget {
    /// The limits of Kubernetes.
    pub fn kubernetes() -> Self {
        Self::new(PER_REQUEST, PER_EXPRESSION)
    }

    pub fn new(remaining: u64, per_expression: u64) -> Self {
        Self { remaining, per_expression }
    }

    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

/// A variable that an expression makes of others.
#[derive(Clone, Debug)]
pub struct Composite {
    pub name: String,
    /// An error says why it is none.
    pub program: Result<Program, String>,
}

/// Composed variables, and what was made of them so far.
#[derive(Debug)]
pub(crate) struct Composed<'a> {
    pub list: &'a [Composite],
    pub made: Vec<OnceLock<Result<Value<'a>, String>>>,
}

/// The variables of one evaluation, or of several: what is composed is then made once.
#[derive(Debug, Default)]
pub struct Variables<'a> {
    pub(crate) list: Vec<(&'a str, Value<'a>)>,
    pub(crate) composed: Option<Composed<'a>>,
}

impl<'a> Variables<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.list.push((name, value));
        self
    }

    /// Variables that are fields of the one called `name`; each may name those before it.
    #[must_use]
    pub fn with_composed(mut self, name: &'a str, list: &'a [Composite]) -> Self {
        self.composed = Some(Composed { list, made: list.iter().map(|_| OnceLock::new()).collect() });
        self.with(name, Value::Composed)
    }

    /// An `authorizer` that is asked for whoever makes the request.
    #[must_use]
    pub fn with_authorizer(self, name: &'a str, authorizer: &'a dyn Authorizer) -> Self {
        let authority = Authority { authorizer, attributes: Arc::default() };
        self.with(name, Value::Opaque(Opaque::Authorizer(authority)))
    }

    /// `authorizer.requestResource`: a check of the resource in `attributes` already.
    #[must_use]
    pub fn with_resource_check(self, name: &'a str, authorizer: &'a dyn Authorizer, attributes: Attributes) -> Self {
        let authority = Authority { authorizer, attributes: Arc::new(attributes) };
        self.with(name, Value::Opaque(Opaque::ResourceCheck(authority)))
    }

    /// The type to declare an authorizer with.
    pub fn authorizer_type() -> Type {
        Type::Opaque("kubernetes.authorization.Authorizer")
    }

    /// The type to declare a check of a resource with.
    pub fn resource_check_type() -> Type {
        Type::Opaque("kubernetes.authorization.ResourceCheck")
    }
}

impl Program {
    pub(crate) fn new(root: Expr, checked: Checked) -> Self {
        let constants = vec![None; checked.types.len()];
        let mut inner = Inner { root, checked, constants };
        inner.constants = constants_of(&inner);
        Self { inner: Arc::new(inner) }
    }

    /// The value, and what it cost is taken from the budget. Evaluation stops as soon as too much is spent.
    pub fn evaluate<'a>(&self, variables: &Variables<'a>, budget: &mut Budget) -> Result<Value<'a>, EvalError> {
        let mut evaluator = Evaluator::new(&self.inner, variables, budget.per_expression, budget.remaining);
        let result = evaluator.root();
        budget.remaining = budget.remaining.saturating_sub(evaluator.cost());
        result
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The type of what comes out.
    pub fn result_type(&self) -> &Type {
        &self.inner.checked.types[self.inner.root.id as usize]
    }

    /// Does the expression name this variable?
    pub fn uses(&self, variable: &str) -> bool {
        self.inner.checked.variables.contains(variable)
    }

    /// The most it can cost with values of these schemas. What is not listed may be of any size.
    pub fn estimate(&self, variables: &[(&str, &Declaration)]) -> u64 {
        estimate::estimate(&self.inner, variables).max
    }
}

fn constants_of(inner: &Inner) -> Vec<Option<Value<'static>>> {
    constants(inner)
}
