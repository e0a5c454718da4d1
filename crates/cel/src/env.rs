//! What expressions may name.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    check::check,
    error::CompileError,
    library::json_patch::ESCAPE_KEY,
    library::{self, Row},
    parse::parse,
    program::Program,
    types::{ObjectType, Type},
};

/// Declared variables and libraries; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Arc<BTreeMap<String, Type>>,
    bindings: bool,
    patches: bool,
}

/// What an expression has to come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    Any,
    Bool,
    String,
    /// One of these types; what is only known while evaluating is not.
    OneOf(Vec<Type>),
}

impl Env {
    /// The functions and macros that Kubernetes 1.36 has everywhere, and no variables.
    pub fn kubernetes() -> Env {
        Env::default()
    }

    /// With a variable; one of the same name is replaced.
    #[must_use]
    pub fn declare(mut self, name: &str, ty: Type) -> Env {
        Arc::make_mut(&mut self.variables).insert(name.to_owned(), ty);
        self
    }

    /// With `cel.bind(name, value, expression)`, which Kubernetes has for some expressions only.
    #[must_use]
    pub fn with_bindings(mut self) -> Env {
        self.bindings = true;
        self
    }

    /// With what expressions make changes of: `Object{}` and `Object.a.b{}` of any fields, `JSONPatch{}`, and
    /// `jsonpatch.escapeKey`.
    #[must_use]
    pub fn with_patches(mut self) -> Env {
        self.patches = true;
        self
    }

    /// Parses and checks. The error is written as cel-go writes it.
    pub fn compile(&self, source: &str, result: Expect) -> Result<Program, CompileError> {
        let parsed = parse(source, self.bindings).map_err(|faults| CompileError::of(source, faults))?;
        let checked = check(self, &parsed.root, parsed.count).map_err(|faults| CompileError::of(source, faults))?;
        let found = &checked.types[parsed.root.id as usize];
        let wanted = match &result {
            Expect::Any => None,
            Expect::Bool => Some(vec![Type::Bool]),
            Expect::String => Some(vec![Type::String]),
            Expect::OneOf(types) => Some(types.clone()),
        };
        if let Some(wanted) = wanted.filter(|wanted| !wanted.contains(found)) {
            let names: Vec<String> = wanted.iter().map(Type::to_string).collect();
            return Err(CompileError { text: format!("must evaluate to {}", names.join(" or ")), wrong_type: true });
        }
        Ok(Program::new(parsed.root, checked))
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    /// The type that is constructed under a name.
    pub(crate) fn constructed(&self, name: &str) -> Option<Type> {
        let is_object = name == "Object" || name.starts_with("Object.");
        match name {
            _ if !self.patches => None,
            "JSONPatch" => Some(Type::json_patch()),
            _ => is_object.then(|| ObjectType::open(name)),
        }
    }

    pub(crate) fn overloads(&self, name: &str) -> &'static [&'static Row] {
        if name == ESCAPE_KEY && !self.patches {
            return &[];
        }
        library::overloads(name)
    }
}
