//! What an expression can cost at most, before it is evaluated. The numbers are those of cel-go and Kubernetes: they
//! decide which definitions are let in.

mod calls;
mod folds;
mod range;

pub(crate) use self::range::Range;
use crate::{
    ast::{Call, Expr, Kind},
    eval::{LIST, MAP, REACH, STRUCT},
    program::Inner,
    schema::Declaration,
    types::Type,
    value::Value,
};

/// What is known of a value before there is one.
#[derive(Clone, Copy, Debug)]
struct Known<'d> {
    cost: Range,
    /// None: of any size.
    size: Option<Range>,
    place: Option<Place<'d>>,
    /// How big the elements of a list, or the values of a map, are.
    element: Option<Range>,
}

/// Where in the schema a value comes from.
#[derive(Clone, Copy, Debug)]
enum Place<'d> {
    Declared(&'d Declaration),
    /// A key of a map.
    Key,
}

impl Place<'_> {
    fn size(self) -> Range {
        match self {
            Place::Declared(declaration) => Range { min: 0, max: declaration.max_elements },
            Place::Key => Range::ZERO,
        }
    }
}

impl<'d> Place<'d> {
    fn element(self) -> Option<Place<'d>> {
        match self {
            Place::Declared(declaration) => declaration.element().map(Place::Declared),
            Place::Key => None,
        }
    }
}

impl Known<'_> {
    fn of(cost: Range) -> Self {
        Known { cost, size: None, place: None, element: None }
    }

    fn size(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

pub(crate) fn estimate(program: &Inner, variables: &[(&str, &Declaration)]) -> Range {
    Estimator { program, variables, scopes: Vec::new() }.node(&program.root).cost
}

struct Estimator<'p, 'd> {
    program: &'p Inner,
    variables: &'p [(&'p str, &'d Declaration)],
    scopes: Vec<(&'p str, Known<'d>)>,
}

impl<'p, 'd> Estimator<'p, 'd> {
    fn ty(&self, expr: &Expr) -> &'p Type {
        &self.program.checked.types[expr.id as usize]
    }

    fn node(&mut self, expr: &'p Expr) -> Known<'d> {
        let mut known = self.kind(expr);
        // What the expression itself says of the size comes first, then the schema, then the type.
        if known.size.is_none() {
            known.size = known.place.map(Place::size).or_else(|| self.ty(expr).is_scalar().then_some(Range::ONE));
        }
        known
    }

    fn kind(&mut self, expr: &'p Expr) -> Known<'d> {
        match &expr.kind {
            Kind::Literal(value) => Known { size: Some(Range::fixed(literal(value))), ..Known::of(Range::ZERO) },
            Kind::Ident(name) => self.ident(name),
            Kind::Select(select) => {
                let operand = self.node(&select.operand);
                if select.test {
                    return Known::of(operand.cost);
                }
                let reaches = matches!(self.ty(&select.operand), Type::Map(..) | Type::Object(_)) || select.optional;
                let cost = operand.cost.plus(if reaches { Range::fixed(REACH) } else { Range::ZERO });
                Known { place: field(operand.place, &select.field), ..Known::of(cost) }
            }
            Kind::Call(call) => self.call(expr, call),
            Kind::List(list) => {
                let mut cost = Range::fixed(LIST);
                let mut element = if list.is_empty() { Range::ZERO } else { Range::NONE };
                for one in list {
                    let known = self.node(&one.value);
                    cost = cost.plus(known.cost);
                    element = element.or(known.size());
                }
                let size = Some(Range::fixed(list.len() as u64));
                Known { size, element: Some(element), ..Known::of(cost) }
            }
            Kind::Map(map) => {
                let mut cost = Range::fixed(MAP);
                let mut element = if map.is_empty() { Range::ZERO } else { Range::NONE };
                for entry in map {
                    let (key, value) = (self.node(&entry.key), self.node(&entry.value));
                    cost = cost.plus(key.cost).plus(value.cost);
                    element = element.or(value.size());
                }
                let size = Some(Range::fixed(map.len() as u64));
                Known { size, element: Some(element), ..Known::of(cost) }
            }
            Kind::Struct(object) => {
                let fields = object.fields.iter().map(|field| self.node(&field.value).cost);
                Known::of(fields.fold(Range::fixed(STRUCT), Range::plus))
            }
            Kind::Comprehension(fold) => self.fold(fold),
            Kind::Bind(bind) => {
                let init = self.node(&bind.init);
                self.scopes.push((&bind.var, Known { cost: Range::ONE, ..init }));
                let body = self.node(&bind.body);
                self.scopes.pop();
                // cel-go binds with a loop over an empty list, which it counts.
                Known { cost: Range::fixed(LIST).plus(init.cost).plus(body.cost), ..body }
            }
        }
    }

    fn ident(&mut self, name: &str) -> Known<'d> {
        let cost = Range::fixed(REACH);
        if let Some((_, known)) = self.scopes.iter().rev().find(|(known, _)| *known == name) {
            return Known { cost, ..*known };
        }
        let declared = self.variables.iter().find(|(known, _)| *known == name);
        Known { place: declared.map(|(_, declaration)| Place::Declared(declaration)), ..Known::of(cost) }
    }

    fn call(&mut self, expr: &'p Expr, call: &'p Call) -> Known<'d> {
        let resolved = &self.program.checked.calls[expr.id as usize];
        let target = call.target.as_ref().filter(|_| !resolved.is_qualified);
        let mut nodes: Vec<&'p Expr> = target.into_iter().collect();
        nodes.extend(&call.args);
        let args: Vec<Known<'d>> = nodes.iter().map(|arg| self.node(arg)).collect();
        let sum = args.iter().fold(Range::ZERO, |sum, arg| sum.plus(arg.cost));
        match (call.function.as_str(), &args[..]) {
            ("_&&_" | "_||_", [left, right]) => {
                // The right side may never be looked at.
                Known::of(Range { min: left.cost.min, max: left.cost.max.saturating_add(right.cost.max) })
            }
            ("_?_:_", [condition, then, other]) => Known {
                size: Some(then.size().or(other.size())),
                element: then.element.zip(other.element).map(|(then, other)| then.or(other)),
                ..Known::of(condition.cost.plus(then.cost.or(other.cost)))
            },
            ("_[_]" | "_[?_]", [container, _]) => Known {
                size: container.element,
                place: container.place.and_then(Place::element),
                ..Known::of(sum.plus(Range::ONE))
            },
            ("dyn", [value]) => Known { cost: sum.plus(Range::ONE), ..*value },
            _ => {
                let mut known = Known { cost: Range::NONE, ..Known::of(Range::NONE) };
                for row in &resolved.rows {
                    let one = self.function(row, &nodes, &args);
                    known.cost = known.cost.or(one.cost);
                    known.size = match (known.size, one.size) {
                        (Some(a), Some(b)) => Some(a.or(b)),
                        (a, b) => a.or(b),
                    };
                    known.element = known.element.or(one.element);
                }
                known.cost = if resolved.rows.is_empty() { sum } else { known.cost.plus(sum) };
                known
            }
        }
    }
}

fn literal(value: &Value<'_>) -> u64 {
    value.size()
}

fn field<'d>(place: Option<Place<'d>>, name: &str) -> Option<Place<'d>> {
    let Some(Place::Declared(declaration)) = place else { return None };
    let fields = &declaration.fields;
    let field = fields.get(name).or_else(|| fields.get(&format!("__{name}__")))?;
    Some(Place::Declared(&field.declaration))
}
