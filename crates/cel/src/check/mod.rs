//! The type of every node, before anything is evaluated. Messages are those of cel-go's checker.

mod calls;
mod literals;
mod unify;

use std::collections::{BTreeMap, BTreeSet};

use self::unify::Substitution;
use crate::{
    ast::{Comprehension, Element, Entry, Expr, Fold, Kind, Select, Struct},
    env::Env,
    error::Fault,
    library::Row,
    types::Type,
};

/// What the checker found out; the tables are indexed by the nodes' ids.
#[derive(Debug)]
pub(crate) struct Checked {
    pub types: Vec<Type>,
    pub calls: Vec<Resolved>,
    /// The variables that the expression names.
    pub variables: BTreeSet<String>,
    /// Nodes that are one name although there are dots in it: types, and variables that are declared so.
    pub qualified: BTreeMap<u32, String>,
}

/// The overloads that a call can be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    pub rows: Vec<&'static Row>,
    /// The target is only part of the function's name, as in `optional.of(x)`.
    pub is_qualified: bool,
}

pub(crate) fn check(env: &Env, root: &Expr, count: u32) -> Result<Checked, Vec<Fault>> {
    let mut checker = Checker {
        env,
        types: vec![Type::Error; count as usize],
        calls: vec![Resolved::default(); count as usize],
        variables: BTreeSet::new(),
        qualified: BTreeMap::new(),
        faults: Vec::new(),
        scopes: Vec::new(),
        substitution: Substitution::default(),
        mixed_allowed: 0,
    };
    checker.expr(root);
    if !checker.faults.is_empty() {
        return Err(checker.faults);
    }
    let substitution = &checker.substitution;
    let types = checker.types.iter().map(|ty| substitution.complete(ty)).collect();
    let Checker { calls, variables, qualified, .. } = checker;
    Ok(Checked { types, calls, variables, qualified })
}

struct Checker<'e> {
    env: &'e Env,
    types: Vec<Type>,
    calls: Vec<Resolved>,
    variables: BTreeSet<String>,
    qualified: BTreeMap<u32, String>,
    faults: Vec<Fault>,
    scopes: Vec<(String, Type)>,
    substitution: Substitution,
    /// Within the arguments of how many functions lists may mix types.
    mixed_allowed: u32,
}

impl Checker<'_> {
    fn fault(&mut self, at: u32, text: String) -> Type {
        self.faults.push(Fault { at, text });
        Type::Error
    }

    fn expr(&mut self, expr: &Expr) -> Type {
        let ty = match &expr.kind {
            Kind::Literal(value) => value.type_of(),
            Kind::Ident(name) => self.ident(expr.at, name),
            Kind::Select(select) => self.select(expr, select),
            Kind::Call(call) => self.call(expr, call),
            Kind::List(list) => self.list(list),
            Kind::Map(map) => self.map(map),
            Kind::Struct(object) => self.construct(expr, object),
            Kind::Comprehension(fold) => self.comprehension(expr, fold),
            Kind::Bind(bind) => {
                let init = self.expr(&bind.init);
                self.scopes.push((bind.var.clone(), init));
                let body = self.expr(&bind.body);
                self.scopes.pop();
                body
            }
        };
        self.types[expr.id as usize] = ty.clone();
        ty
    }

    fn known(&self, name: &str) -> Option<&Type> {
        let local = self.scopes.iter().rev().find(|(known, _)| known == name).map(|(_, ty)| ty);
        local.or_else(|| self.env.variable(name))
    }

    fn ident(&mut self, at: u32, name: &str) -> Type {
        if let Some(ty) = self.known(name) {
            let ty = ty.clone();
            if !self.scopes.iter().any(|(known, _)| known == name) {
                self.variables.insert(name.to_owned());
            }
            return ty;
        }
        match named_type(name) {
            Some(_) => Type::Type,
            None => self.fault(at, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    /// The type of a node that is one name with dots.
    fn dotted(&mut self, expr: &Expr) -> Option<Type> {
        let name = expr.qualified()?;
        let first = name.split('.').next().unwrap_or_default();
        let is_local = self.scopes.iter().any(|(known, _)| known == first);
        let variable = self.env.variable(&name).filter(|_| !is_local).cloned();
        if variable.is_some() {
            self.variables.insert(name.clone());
        }
        let ty = variable.or_else(|| named_type(&name).map(|_| Type::Type))?;
        self.qualified.insert(expr.id, name);
        Some(ty)
    }

    fn construct(&mut self, expr: &Expr, object: &Struct) -> Type {
        let found = self.env.constructed(&object.name);
        for member in &object.fields {
            let value = self.expr(&member.value);
            let value = self.held(value, member.optional, member.at);
            let Some(Type::Object(ty)) = &found else { continue };
            match ty.field(&member.name) {
                None => {
                    self.fault(member.at, format!("undefined field '{}'", member.name));
                }
                Some(field) if !self.substitution.assign(field, &value) => {
                    let value = self.substitution.complete(&value);
                    let name = &member.name;
                    let text = format!("expected type of field '{name}' is '{field}' but provided type is '{value}'");
                    self.fault(member.at, text);
                }
                Some(_) => {}
            }
        }
        match found {
            Some(ty) => ty,
            None => self.fault(expr.at, format!("undeclared reference to '{}' (in container '')", object.name)),
        }
    }

    fn select(&mut self, expr: &Expr, select: &Select) -> Type {
        if let Some(ty) = self.dotted(expr) {
            return ty;
        }
        let operand = self.expr(&select.operand);
        let operand = self.substitution.resolve(&operand);
        let (inner, was_optional) = match operand {
            Type::Optional(inner) => (self.substitution.resolve(&inner), true),
            other => (other, false),
        };
        let field = match &inner {
            Type::Error | Type::Dyn | Type::Param(_) => Type::Dyn,
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) => match object.field(&select.field) {
                Some(field) => field.clone(),
                None => self.fault(expr.at, format!("undefined field '{}'", select.field)),
            },
            other => {
                let text = format!("type '{other}' does not support field selection");
                self.fault(expr.at, text)
            }
        };
        if select.test {
            Type::Bool
        } else if select.optional || was_optional {
            Type::optional(field)
        } else {
            field
        }
    }

    /// One type for all, or `dyn`; a mix is a fault, except where a function is made for it.
    fn join(&mut self, before: Option<Type>, next: Type, at: u32) -> Type {
        let Some(before) = before else { return next };
        if self.substitution.same(&before, &next) {
            return if before == Type::Dyn || next == Type::Dyn { Type::Dyn } else { before };
        }
        if self.mixed_allowed == 0 {
            let (before, next) = (self.substitution.complete(&before), self.substitution.complete(&next));
            self.fault(at, format!("expected type '{before}' but found '{next}'"));
        }
        Type::Dyn
    }

    fn held(&mut self, ty: Type, optional: bool, at: u32) -> Type {
        match (optional, ty) {
            (false, ty) => ty,
            (true, Type::Optional(inner)) => *inner,
            (true, ty) if ty.is_dyn_or_error() => ty,
            (true, ty) => self.fault(at, format!("expected type 'optional_type({ty})' but found '{ty}'")),
        }
    }

    fn list(&mut self, list: &[Element]) -> Type {
        let mut joined = None;
        for element in list {
            let at = element.value.at;
            let ty = self.expr(&element.value);
            let ty = self.held(ty, element.optional, at);
            joined = Some(self.join(joined, ty, at));
        }
        Type::list(joined.unwrap_or_else(|| self.substitution.fresh()))
    }

    fn map(&mut self, map: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in map {
            let key = self.expr(&entry.key);
            keys = Some(self.join(keys, key, entry.key.at));
            let value = self.expr(&entry.value);
            let value = self.held(value, entry.optional, entry.value.at);
            values = Some(self.join(values, value, entry.value.at));
        }
        let mut or_fresh = |ty: Option<Type>| ty.unwrap_or_else(|| self.substitution.fresh());
        Type::map(or_fresh(keys), or_fresh(values))
    }

    fn comprehension(&mut self, expr: &Expr, fold: &Comprehension) -> Type {
        let range = self.expr(&fold.range);
        let (key, value) = match self.substitution.resolve(&range) {
            Type::List(element) => (Type::Int, *element),
            Type::Map(key, value) => (*key, *value),
            Type::Dyn | Type::Error | Type::Param(_) => (Type::Dyn, Type::Dyn),
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fault(fold.range.at, text);
                (Type::Error, Type::Error)
            }
        };
        let is_map = matches!(self.substitution.resolve(&range), Type::Map(..));
        let single = if is_map { key.clone() } else { value.clone() };
        match &fold.var2 {
            None => self.scopes.push((fold.var.clone(), single.clone())),
            Some(second) => {
                self.scopes.push((fold.var.clone(), key.clone()));
                self.scopes.push((second.clone(), value));
            }
        }
        if let Some(filter) = &fold.filter {
            self.condition(filter, "_?_:_", expr.at);
        }
        let result = self.folded(expr, fold, key, single);
        self.scopes.truncate(self.scopes.len() - 1 - usize::from(fold.var2.is_some()));
        result
    }

    fn folded(&mut self, expr: &Expr, fold: &Comprehension, key: Type, single: Type) -> Type {
        match fold.fold {
            Fold::All => self.condition(&fold.body, "_&&_", expr.at),
            Fold::Exists => self.condition(&fold.body, "_||_", expr.at),
            Fold::ExistsOne => self.condition(&fold.body, "_?_:_", expr.at),
            Fold::Filter => {
                self.condition(&fold.body, "_?_:_", expr.at);
                return Type::list(single);
            }
            Fold::List => return Type::list(self.expr(&fold.body)),
            Fold::Map => return Type::map(key, self.expr(&fold.body)),
            Fold::Entries => {
                let body = self.expr(&fold.body);
                return match self.substitution.resolve(&body) {
                    body @ (Type::Map(..) | Type::Dyn | Type::Error) => body,
                    other => {
                        let text = format!(
                            "found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, dyn), {other})'"
                        );
                        self.fault(expr.at, text)
                    }
                };
            }
        }
        Type::Bool
    }

    fn condition(&mut self, expr: &Expr, function: &str, at: u32) {
        let ty = self.expr(expr);
        if !self.substitution.assign(&Type::Bool, &ty) {
            let ty = self.substitution.complete(&ty);
            let args = if function == "_?_:_" { format!("({ty}, dyn, dyn)") } else { format!("(bool, {ty})") };
            self.fault(at, format!("found no matching overload for '{function}' applied to '{args}'"));
        }
    }
}

/// Types are values too, under these names.
pub(crate) fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "type" => Type::Type,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "net.IP" => Type::Opaque("net.IP"),
        "net.CIDR" => Type::Opaque("net.CIDR"),
        "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
        "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
        "kubernetes.Semver" => Type::Opaque("kubernetes.Semver"),
        "kubernetes.NamedFormat" => Type::Opaque("kubernetes.NamedFormat"),
        _ => return None,
    })
}
