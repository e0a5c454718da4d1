//! What the parser makes of an expression. Macros are understood here already: they are nodes of their own.

use crate::value::Value;

/// One node. `id` is its place in the tables of the checker; `at` the character in the source that stands for it in
/// messages: the operator, the dot, the bracket.
#[derive(Debug)]
pub(crate) struct Expr {
    pub id: u32,
    pub at: u32,
    /// How many nodes lie below it at most; bounded, so that no walk leaves the stack.
    pub depth: u16,
    pub kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Value<'static>),
    Ident(String),
    Select(Box<Select>),
    /// Operators too, under the names that cel-go gives them: `_+_`, `_[_]`.
    Call(Box<Call>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Struct(Box<Struct>),
    Comprehension(Box<Comprehension>),
    /// `init` under a name, for `body`.
    Bind(Box<Bind>),
}

#[derive(Debug)]
pub(crate) struct Select {
    pub operand: Expr,
    pub field: String,
    /// `has(operand.field)`
    pub test: bool,
    /// `operand.?field`
    pub optional: bool,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub target: Option<Expr>,
    pub function: String,
    pub args: Vec<Expr>,
}

/// `optional`: `[?x]`, which is there only if `x` holds a value.
#[derive(Debug)]
pub(crate) struct Element {
    pub value: Expr,
    pub optional: bool,
}

/// `Object.spec{replicas: 1}`
#[derive(Debug)]
pub(crate) struct Struct {
    pub name: String,
    pub fields: Vec<Member>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub name: String,
    pub at: u32,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    All,
    Exists,
    ExistsOne,
    /// `map` and `transformList`
    List,
    Filter,
    /// `transformMap`
    Map,
    /// `transformMapEntry`
    Entries,
}

#[derive(Debug)]
pub(crate) struct Comprehension {
    pub fold: Fold,
    pub range: Expr,
    pub var: String,
    /// With two, the first is the index or the key and the second the value.
    pub var2: Option<String>,
    pub filter: Option<Expr>,
    pub body: Expr,
}

#[derive(Debug)]
pub(crate) struct Bind {
    pub var: String,
    pub init: Expr,
    pub body: Expr,
}

impl Expr {
    /// An identifier, or one after another with dots between them.
    pub fn qualified(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select(select) if !select.test && !select.optional => {
                Some(format!("{}.{}", select.operand.qualified()?, select.field))
            }
            _ => None,
        }
    }

    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
            Kind::Struct(object) => object.fields.iter().map(|field| &field.value).collect(),
            Kind::Select(select) => vec![&select.operand],
            Kind::Call(call) => call.target.iter().chain(&call.args).collect(),
            Kind::List(list) => list.iter().map(|element| &element.value).collect(),
            Kind::Map(map) => map.iter().flat_map(|entry| [&entry.key, &entry.value]).collect(),
            Kind::Comprehension(fold) => [&fold.range].into_iter().chain(&fold.filter).chain([&fold.body]).collect(),
            Kind::Bind(bind) => vec![&bind.init, &bind.body],
        }
    }
}
