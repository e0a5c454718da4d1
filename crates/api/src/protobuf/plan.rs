//! How a struct's properties become a message's fields: found once for each type, when its first object is written.

use std::sync::{LazyLock, OnceLock};

use super::short;
use super::table::{Field, Shape, Type, message, same_name};
use crate::schema::{self, Kind, TypeRef};

/// JSON inlines structs in structs in structs, and no deeper.
const MAX_INLINED: usize = 2;

/// How one JSON value is written.
#[derive(Debug)]
pub(super) enum Form {
    Text,
    Bytes,
    Integer,
    Boolean,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON, which stays what it is inside a message.
    Json,
    /// A list that is a message of its own, such as the values of a user's extra field.
    NamedList {
        tag: u32,
        element: Box<Form>,
    },
    /// The unions of JSON Schema; the type is that of the schemas in them.
    SchemaOrBool(Struct),
    SchemaOrList(Struct, Box<Form>),
    SchemaOrTexts(Struct),
    Struct(Struct),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Struct {
    message: &'static [Field],
    ty: TypeRef<'static>,
}

/// One property of a struct.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: &'static str,
    /// The field's number, after those of the messages around it that JSON inlines.
    pub path: Vec<u32>,
    pub shape: Shape,
    pub form: Form,
    /// The place of the field among all of the struct, by number.
    pub rank: usize,
}

impl Slot {
    pub(super) fn tag(&self) -> u32 {
        self.path.last().copied().unwrap_or_default()
    }
}

/// The properties of a struct, by name.
#[derive(Debug, Default)]
pub(super) struct Plan {
    slots: Vec<Slot>,
    /// Where in `slots` the field of a rank is.
    by_rank: Vec<usize>,
}

static PLANS: LazyLock<Vec<OnceLock<Plan>>> = LazyLock::new(|| {
    let types = schema::generated::BUILTIN.nodes.len();
    std::iter::repeat_with(OnceLock::new).take(types).collect()
});

impl Struct {
    /// `None` where the table has no message of the type's name.
    pub(super) fn of(ty: TypeRef<'static>) -> Option<Self> {
        Some(Self { message: message(ty.name())?, ty })
    }

    pub(super) fn plan(self) -> &'static Plan {
        static EMPTY: Plan = Plan { slots: Vec::new(), by_rank: Vec::new() };
        let Some(kept) = PLANS.get(self.ty.id() as usize) else { return &EMPTY };
        kept.get_or_init(|| Plan::compile(self.message, self.ty))
    }
}

#[cfg(test)]
impl Struct {
    pub(super) fn id(self) -> u32 {
        self.ty.id()
    }

    pub(super) fn name(self) -> &'static str {
        self.ty.name()
    }

    pub(super) fn requires(self, property: &str) -> bool {
        self.ty.field(property).is_some_and(|field| field.is_required())
    }

    /// The type and all that it reaches, once each.
    pub(super) fn visit(self, seen: &mut std::collections::BTreeSet<u32>, each: &mut impl FnMut(Self)) {
        if !seen.insert(self.id()) {
            return;
        }
        each(self);
        for slot in &self.plan().slots {
            match &slot.form {
                Form::Struct(ty) | Form::SchemaOrBool(ty) | Form::SchemaOrTexts(ty) => ty.visit(seen, each),
                Form::SchemaOrList(ty, _) => ty.visit(seen, each),
                _ => {}
            }
        }
    }
}

impl Plan {
    /// Of a message with one field, which is one property of `owner`.
    pub(super) fn only(name: &str, tag: u32, owner: TypeRef<'static>) -> Self {
        let property = owner.field(name);
        let form = property.and_then(|property| Some((property, Form::Struct(Struct::of(property.ty())?))));
        Self::ordered(
            form.map(|(property, form)| Slot {
                name: property.name(),
                path: vec![tag],
                shape: Shape::One,
                form,
                rank: 0,
            })
            .into_iter()
            .collect(),
        )
    }

    fn compile(fields: &'static [Field], ty: TypeRef<'static>) -> Self {
        let mut slots = Vec::new();
        collect(fields, ty, &[], &mut slots);
        Self::ordered(slots)
    }

    fn ordered(mut slots: Vec<Slot>) -> Self {
        slots.sort_by(|a, b| a.name.cmp(b.name).then(a.path.len().cmp(&b.path.len())));
        // A property is the struct's own before it is that of a struct in it.
        slots.dedup_by(|later, first| later.name == first.name);
        let mut by_rank: Vec<usize> = (0..slots.len()).collect();
        by_rank.sort_by(|a, b| slots[*a].path.cmp(&slots[*b].path));
        for (rank, at) in by_rank.iter().enumerate() {
            slots[*at].rank = rank;
        }
        Self { slots, by_rank }
    }

    pub(super) fn slot(&self, name: &str) -> Option<&Slot> {
        let found = self.slots.binary_search_by(|slot| slot.name.cmp(name)).ok()?;
        Some(&self.slots[found])
    }

    pub(super) fn ranked(&self, rank: usize) -> &Slot {
        &self.slots[self.by_rank[rank]]
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

fn collect(fields: &'static [Field], ty: TypeRef<'static>, around: &[u32], slots: &mut Vec<Slot>) {
    for field in fields {
        let path = [around, &[field.tag]].concat();
        let Some(property) = ty.fields().find(|property| same_name(field.name, property.name())) else {
            // A struct that is inlined in JSON is a message of its own here.
            if let (Type::Message(inner), Shape::One) = (field.ty, field.shape)
                && around.len() < MAX_INLINED
                && let Some(inner) = message(inner)
            {
                collect(inner, ty, &path, slots);
            }
            continue;
        };
        let json = if field.shape == Shape::One { property.ty() } else { property.ty().element() };
        let Some(form) = form(field.ty, json, ty) else { continue };
        slots.push(Slot { name: property.name(), path, shape: field.shape, form, rank: 0 });
    }
}

/// `json` is the value's type, `owner` that of the struct which holds it.
fn form(ty: Type, json: TypeRef<'static>, owner: TypeRef<'static>) -> Option<Form> {
    let name = match ty {
        Type::String => return Some(Form::Text),
        Type::Bytes => return Some(Form::Bytes),
        Type::Integer => return Some(Form::Integer),
        Type::Boolean => return Some(Form::Boolean),
        Type::Double => return Some(Form::Double),
        Type::Message(name) => name,
    };
    match json.kind() {
        Kind::Time => return Some(Form::Time),
        Kind::MicroTime => return Some(Form::MicroTime),
        Kind::Quantity => return Some(Form::Quantity),
        Kind::IntOrString => return Some(Form::IntOrString),
        _ => {}
    }
    match short(name) {
        "rawextension" | "fieldsv1" | "json" => return Some(Form::Json),
        "jsonschemapropsorbool" => return Struct::of(owner).map(Form::SchemaOrBool),
        "jsonschemapropsorarray" => {
            return Struct::of(owner).map(|schema| Form::SchemaOrList(schema, Box::new(Form::Struct(schema))));
        }
        "jsonschemapropsorstringarray" => return Struct::of(owner).map(Form::SchemaOrTexts),
        _ => {}
    }
    let message = message(name)?;
    if json.kind() == Kind::List {
        let items = message.first()?;
        let element = Box::new(form(items.ty, json.element(), owner)?);
        return Some(Form::NamedList { tag: items.tag, element });
    }
    Some(Form::Struct(Struct { message, ty: json }))
}
