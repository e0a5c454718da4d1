//! Expressions of a validating policy, checked against the types of what it is for. What is found are warnings in its
//! status: a policy may be for kinds that are defined later, or by others.

use std::collections::BTreeSet;

use knarr_cel::{Expect, ObjectType, Type};
use serde_json::{Value, json};

use super::{
    environment::{Scope, typed},
    variables::Composition,
};
use crate::{
    schema::{Kind, TypeRef},
    value::{is_empty, items, text},
};

/// The most kinds of one rule that are looked at.
const MAX_KINDS: usize = 10;

/// Group, version and kind.
type Gvk = (String, String, String);

/// Which kinds there are now.
pub trait Kinds {
    /// The kind of a resource; `None` where there is no such resource.
    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<String>;
    /// `None` where the kind has no schema.
    fn object(&self, group: &str, version: &str, kind: &str) -> Option<Type>;
}

/// `expressionWarnings` of a policy's status.
pub fn warnings(policy: &Value, kinds: &dyn Kinds) -> Vec<Value> {
    let spec = &policy["spec"];
    let objects = matched(spec, kinds);
    let params = param_type(&spec["paramKind"], kinds);
    let mut all = Vec::new();
    for (i, validation) in items(&spec["validations"]).iter().enumerate() {
        for key in ["expression", "messageExpression"] {
            if is_empty(&validation[key]) {
                continue;
            }
            let found = check(spec, text(&validation[key]), &objects, params.as_ref());
            if !found.is_empty() {
                let field = format!("spec.validations[{i}].{key}");
                all.push(json!({"fieldRef": field, "warning": found.join("\n")}));
            }
        }
    }
    all
}

fn check(spec: &Value, source: &str, objects: &[(Gvk, Type)], params: Option<&Type>) -> Vec<String> {
    let scope = Scope { params: params.is_some(), authorizer: true, patches: false };
    let checked = objects.iter().filter_map(|((group, version, kind), object)| {
        let env = typed(scope, object, params.unwrap_or(&Type::Dyn));
        let why = Composition::of(env, spec).env().compile(source, Expect::Any).err()?;
        Some(format!("{group}/{version}, Kind={kind}: {why}\n"))
    });
    checked.collect()
}

fn param_type(kind: &Value, kinds: &dyn Kinds) -> Option<Type> {
    let (group, version) = text(&kind["apiVersion"]).split_once('/').unwrap_or(("", text(&kind["apiVersion"])));
    kinds.object(group, version, text(&kind["kind"]))
}

/// The kinds that rules name one by one; nobody can tell what a `*` will be.
fn matched(spec: &Value, kinds: &dyn Kinds) -> Vec<(Gvk, Type)> {
    let mut found: BTreeSet<Gvk> = BTreeSet::new();
    for rule in items(&spec["matchConstraints"]["resourceRules"]) {
        let sorted = |key: &str| items(&rule[key]).iter().map(text).collect::<BTreeSet<&str>>();
        let (groups, versions, mut resources) = (sorted("apiGroups"), sorted("apiVersions"), sorted("resources"));
        if groups.iter().chain(&versions).any(|one| one.contains('*')) {
            continue;
        }
        resources.retain(|one| !one.contains(['*', '/']));
        let all = groups.iter().flat_map(|group| versions.iter().map(move |version| (*group, *version)));
        let all = all.flat_map(|(group, version)| resources.iter().map(move |resource| (group, version, *resource)));
        let known = all.filter_map(|(group, version, resource)| {
            Some((group.to_owned(), version.to_owned(), kinds.kind(group, version, resource)?))
        });
        found.extend(known.take(MAX_KINDS));
    }
    let typed = found.into_iter().filter_map(|gvk| {
        let ty = kinds.object(&gvk.0, &gvk.1, &gvk.2)?;
        Some((gvk, ty))
    });
    typed.collect()
}

/// The type of the objects of a schema, as expressions see it. `name`: what messages call it.
pub fn object_type(schema: TypeRef<'_>, name: &str) -> Type {
    node(schema, name, &mut Vec::new())
}

fn node(schema: TypeRef<'_>, name: &str, above: &mut Vec<u32>) -> Type {
    match schema.kind() {
        Kind::String => Type::String,
        Kind::Bytes => Type::Bytes,
        Kind::Int32 | Kind::Int64 => Type::Int,
        Kind::Double => Type::Double,
        Kind::Boolean => Type::Bool,
        Kind::Time | Kind::MicroTime => Type::Timestamp,
        Kind::Quantity | Kind::IntOrString | Kind::Any => Type::Dyn,
        // A schema of schemas goes on for ever.
        _ if above.contains(&schema.id()) => Type::Dyn,
        Kind::Struct if schema.is_open() && schema.fields().len() == 0 => Type::Dyn,
        kind => {
            above.push(schema.id());
            let ty = match kind {
                Kind::List => Type::list(node(schema.element(), &format!("{name}.@idx"), above)),
                Kind::Map => Type::map(Type::String, node(schema.element(), &format!("{name}.@elem"), above)),
                _ => {
                    let fields = schema.fields().filter_map(|field| {
                        let escaped = knarr_cel::escape(field.name())?;
                        let ty = node(field.ty(), &format!("{name}.{escaped}"), above);
                        Some((escaped, ty))
                    });
                    ObjectType::declare(name, fields.collect::<Vec<_>>())
                }
            };
            above.pop();
            ty
        }
    }
}
