//! One expression, compiled as upstream compiles it: what is wrong with it is told where it is used.

use knarr_cel::{Budget, Env, EvalError, Expect, Program, Type, Value, Variables};

/// What an expression has to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Anything,
    Bool,
    String,
    StringOrNull,
    /// An object with the fields to set.
    Configuration,
    JsonPatch,
}

/// An expression, and the program that it is.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub source: String,
    pub program: Result<Program, String>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// All that may be spent is spent: nothing more is evaluated.
    Spent(String),
    Failed(String),
}

impl Failure {
    pub fn text(self) -> String {
        match self {
            Failure::Spent(text) | Failure::Failed(text) => text,
        }
    }
}

impl Wanted {
    fn types(self) -> Vec<Type> {
        match self {
            Wanted::Anything => Vec::new(),
            Wanted::Bool => vec![Type::Bool],
            Wanted::String => vec![Type::String],
            Wanted::StringOrNull => vec![Type::String, Type::Null],
            Wanted::Configuration => vec![knarr_cel::ObjectType::open("Object")],
            Wanted::JsonPatch => vec![Type::list(Type::json_patch())],
        }
    }
}

/// As cel-go writes a type that is no part of a checker's message.
fn written(ty: &Type) -> String {
    if *ty == Type::Null { "null_type".to_owned() } else { ty.to_string() }
}

impl Expression {
    pub fn compile(env: &Env, source: &str, wanted: Wanted) -> Self {
        Self { source: source.to_owned(), program: compile(env, source, wanted) }
    }

    pub fn uses(&self, variable: &str) -> bool {
        self.program.as_ref().is_ok_and(|program| program.uses(variable))
    }

    pub fn evaluate<'a>(&self, variables: &Variables<'a>, budget: &mut Budget) -> Result<Value<'a>, Failure> {
        let program = self.program.as_ref().map_err(|why| Failure::Failed(format!("compilation error: {why}")))?;
        program.evaluate(variables, budget).map_err(|why| match why {
            EvalError::BudgetExceeded => Failure::Spent(why.to_string()),
            why => Failure::Failed(format!("expression '{}' resulted in error: {why}", self.source)),
        })
    }
}

fn compile(env: &Env, source: &str, wanted: Wanted) -> Result<Program, String> {
    let program = env.compile(source, Expect::Any).map_err(|error| format!("compilation failed: {error}"))?;
    let (types, found) = (wanted.types(), program.result_type());
    if types.is_empty() || types.contains(found) {
        return Ok(program);
    }
    let names: Vec<String> = types.iter().map(written).collect();
    let found = written(found);
    Err(match names.as_slice() {
        [only] => format!("must evaluate to {only} but got {found}"),
        many => format!("must evaluate to one of [{}] but got {found}", many.join(" ")),
    })
}
