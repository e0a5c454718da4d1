//! Calls that are none: `has`, the comprehensions, and what names a value.

use super::{Parse, Parser};
use crate::{
    ast::{Bind, Call, Comprehension, Expr, Fold, Kind, Select},
    error::Fault,
};

/// `(name, arguments, what it does, two variables, with a filter)`
const FOLDS: [(&str, usize, Fold, bool, bool); 17] = [
    ("all", 2, Fold::All, false, false),
    ("exists", 2, Fold::Exists, false, false),
    ("exists_one", 2, Fold::ExistsOne, false, false),
    ("existsOne", 2, Fold::ExistsOne, false, false),
    ("map", 2, Fold::List, false, false),
    ("map", 3, Fold::List, false, true),
    ("filter", 2, Fold::Filter, false, false),
    ("all", 3, Fold::All, true, false),
    ("exists", 3, Fold::Exists, true, false),
    ("exists_one", 3, Fold::ExistsOne, true, false),
    ("existsOne", 3, Fold::ExistsOne, true, false),
    ("transformList", 3, Fold::List, true, false),
    ("transformList", 4, Fold::List, true, true),
    ("transformMap", 3, Fold::Map, true, false),
    ("transformMap", 4, Fold::Map, true, true),
    ("transformMapEntry", 3, Fold::Entries, true, false),
    ("transformMapEntry", 4, Fold::Entries, true, true),
];

fn variable(expr: &Expr) -> Result<String, Fault> {
    match &expr.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Fault { at: expr.at, text: "argument must be a simple name".to_owned() }),
    }
}

impl Parser {
    pub(super) fn global_call(&mut self, at: u32, name: String, mut args: Vec<Expr>) -> Parse {
        if name == "has" && args.len() == 1 {
            let arg = args.remove(0);
            return match arg.kind {
                Kind::Select(select) if !select.test && !select.optional => {
                    self.node(at, Kind::Select(Box::new(Select { test: true, ..*select })))
                }
                _ => Err(Fault { at: arg.at, text: "invalid argument to has() macro".to_owned() }),
            };
        }
        self.call(at, &name, args)
    }

    pub(super) fn member_call(&mut self, at: u32, target: Expr, name: String, mut args: Vec<Expr>) -> Parse {
        let fold = FOLDS.iter().find(|(known, count, ..)| *known == name && *count == args.len());
        if let Some((.., fold, two, filtered)) = fold {
            let mut rest = args.split_off(if *two { 2 } else { 1 });
            let var = variable(&args[0])?;
            let var2 = args.get(1).map(variable).transpose()?;
            let filter = filtered.then(|| rest.remove(0));
            let body = rest.remove(0);
            let fold = Comprehension { fold: *fold, range: target, var, var2, filter, body };
            return self.node(at, Kind::Comprehension(Box::new(fold)));
        }
        match (name.as_str(), args.len()) {
            ("optMap" | "optFlatMap", 2) => self.opt_map(at, target, &name, args),
            ("sortBy", 2) => self.sort_by(at, target, args),
            ("bind", 3) if self.bindings && matches!(&target.kind, Kind::Ident(name) if name == "cel") => {
                let var = variable(&args[0])?;
                let (body, init) = (args.remove(2), args.remove(1));
                self.node(at, Kind::Bind(Box::new(Bind { var, init, body })))
            }
            _ => self.node(at, Kind::Call(Box::new(Call { target: Some(target), function: name, args }))),
        }
    }

    fn ident_node(&mut self, at: u32, name: &str) -> Parse {
        self.node(at, Kind::Ident(name.to_owned()))
    }

    fn member_node(&mut self, at: u32, target: Expr, name: &str, args: Vec<Expr>) -> Parse {
        self.node(at, Kind::Call(Box::new(Call { target: Some(target), function: name.to_owned(), args })))
    }

    /// `x.optMap(v, e)`: `x.hasValue() ? optional.of(e with x.value() as v) : optional.none()`, `x` taken once.
    fn opt_map(&mut self, at: u32, target: Expr, name: &str, mut args: Vec<Expr>) -> Parse {
        const TARGET: &str = "@target";
        let var = variable(&args[0])?;
        let body = args.remove(1);
        let held = self.ident_node(at, TARGET)?;
        let condition = self.member_node(at, held, "hasValue", Vec::new())?;
        let held = self.ident_node(at, TARGET)?;
        let init = self.member_node(at, held, "value", Vec::new())?;
        let mut then = self.node(at, Kind::Bind(Box::new(Bind { var, init, body })))?;
        if name == "optMap" {
            then = self.call(at, "optional.of", vec![then])?;
        }
        let none = self.call(at, "optional.none", Vec::new())?;
        let body = self.call(at, "_?_:_", vec![condition, then, none])?;
        self.node(at, Kind::Bind(Box::new(Bind { var: TARGET.to_owned(), init: target, body })))
    }

    fn sort_by(&mut self, at: u32, target: Expr, mut args: Vec<Expr>) -> Parse {
        const LIST: &str = "@list";
        let var = variable(&args[0])?;
        let body = args.remove(1);
        let range = self.ident_node(at, LIST)?;
        let keys = Comprehension { fold: Fold::List, range, var, var2: None, filter: None, body };
        let keys = self.node(at, Kind::Comprehension(Box::new(keys)))?;
        let list = self.ident_node(at, LIST)?;
        let body = self.member_node(at, list, "@sortByAssociatedKeys", vec![keys])?;
        self.node(at, Kind::Bind(Box::new(Bind { var: LIST.to_owned(), init: target, body })))
    }
}
