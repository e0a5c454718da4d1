//! Which overloads a call can be, and what comes out of it.

use super::{Checker, Resolved};
use crate::{
    ast::{Call, Expr},
    library::Row,
    types::{Type, signature},
};

impl Checker<'_> {
    pub(super) fn call(&mut self, expr: &Expr, call: &Call) -> Type {
        if let Some(name) = self.qualified(call) {
            let args = self.args(call, &name);
            return self.resolve(expr, &name, args, false, true);
        }
        let target = call.target.as_ref().map(|target| self.expr(target));
        let is_member = target.is_some();
        let mut args: Vec<Type> = target.into_iter().collect();
        args.extend(self.args(call, &call.function));
        match call.function.as_str() {
            "_&&_" | "_||_" => {
                let fits = args.iter().all(|arg| self.substitution.assign(&Type::Bool, arg));
                if fits { Type::Bool } else { self.no_overload(expr, &call.function, &args, false) }
            }
            "_?_:_" => self.conditional(expr, &args),
            "_[_]" | "_[?_]" => self.index(expr, &call.function, &args),
            _ => self.resolve(expr, &call.function, args, is_member, false),
        }
    }

    /// `optional.of`: a name with dots that is a function's, unless its first part is a variable.
    fn qualified(&self, call: &Call) -> Option<String> {
        let prefix = call.target.as_ref()?.qualified()?;
        let first = prefix.split('.').next().unwrap_or_default();
        if self.known(first).is_some() {
            return None;
        }
        let name = format!("{prefix}.{}", call.function);
        (!self.env.overloads(&name).is_empty()).then_some(name)
    }

    fn args(&mut self, call: &Call, name: &str) -> Vec<Type> {
        let mixes = u32::from(name == "format");
        self.mixed_allowed += mixes;
        let types = call.args.iter().map(|arg| self.expr(arg)).collect();
        self.mixed_allowed -= mixes;
        self.literal_faults(name, call);
        types
    }

    fn no_overload(&mut self, expr: &Expr, name: &str, args: &[Type], is_member: bool) -> Type {
        let args: Vec<Type> = args.iter().map(|arg| self.substitution.complete(arg)).collect();
        let text = format!("found no matching overload for '{name}' applied to '{}'", signature(&args, is_member));
        self.fault(expr.at, text)
    }

    fn conditional(&mut self, expr: &Expr, args: &[Type]) -> Type {
        let [condition, then, other] = args else { return Type::Error };
        let result = self.substitution.fresh();
        let fits = self.substitution.assign(&Type::Bool, condition)
            && self.substitution.assign(&result, then)
            && self.substitution.assign(&result, other);
        if fits { self.substitution.resolve(&result) } else { self.no_overload(expr, "_?_:_", args, false) }
    }

    fn index(&mut self, expr: &Expr, name: &str, args: &[Type]) -> Type {
        let [target, index] = args else { return Type::Error };
        let (inner, was_optional) = match self.substitution.resolve(target) {
            Type::Optional(inner) => (self.substitution.resolve(&inner), true),
            other => (other, false),
        };
        let found = match inner {
            Type::List(element) => self.substitution.assign(&Type::Int, index).then_some(*element),
            Type::Map(key, value) => self.substitution.assign(&key, index).then_some(*value),
            Type::Dyn | Type::Error | Type::Param(_) => Some(Type::Dyn),
            _ => None,
        };
        match found {
            Some(found) if was_optional || name == "_[?_]" => Type::optional(found),
            Some(found) => found,
            None => self.no_overload(expr, name, args, false),
        }
    }

    fn resolve(&mut self, expr: &Expr, name: &str, args: Vec<Type>, is_member: bool, is_qualified: bool) -> Type {
        let known = self.env.overloads(name);
        if known.is_empty() {
            return self.fault(expr.at, format!("undeclared reference to '{name}' (in container '')"));
        }
        let mut rows: Vec<&'static Row> = Vec::new();
        let mut result: Option<Type> = None;
        for row in known {
            if row.member != is_member || row.args.len() != args.len() {
                continue;
            }
            let mark = self.substitution.mark();
            let params = [self.substitution.fresh(), self.substitution.fresh()];
            let fits = row.args.iter().zip(&args).all(|(sig, arg)| {
                let formal = sig.instantiate(&params);
                self.substitution.assign(&formal, arg)
            });
            if !fits {
                self.substitution.reset(mark);
                continue;
            }
            rows.push(row);
            let found = self.substitution.resolve(&row.result.instantiate(&params));
            result = Some(match result {
                None => found,
                Some(before) if before == found => before,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(result) => {
                self.calls[expr.id as usize] = Resolved { rows, is_qualified };
                result
            }
            None => self.no_overload(expr, name, &args, is_member),
        }
    }
}
