//! A configuration laid over an object without asking who owns what: what admission adds belongs to nobody.

use std::fmt::Write;

use serde_json::Value;

use super::{merge, operation::misfit, walk::Type};
use crate::schema::{self, Kind, Relation, TypeRef};

/// The object with the configuration merged in. The error says what of the configuration does not fit the type, or
/// would replace more than it says: atomic values can't be set in part.
pub fn overlay(ty: Option<TypeRef<'_>>, object: &Value, config: &Value) -> Result<Value, String> {
    if let Some(ty) = ty {
        let errors: Vec<String> = schema::check(ty, config).iter().map(misfit).collect();
        match errors.as_slice() {
            [] => {}
            [only] => return Err(format!("failed to convert patch object to typed object: {only}")),
            many => {
                let many = many.join("\n  ");
                return Err(format!("failed to convert patch object to typed object: errors:\n  {many}"));
            }
        }
    }
    if let Some(why) = super::walk::unmergeable(ty, config) {
        return Err(format!("failed to convert patch object to typed object: {why}"));
    }
    let mut atomics = Vec::new();
    collect(ty, config, &mut String::new(), &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"));
    }
    let mut merged = object.clone();
    merge::merge(ty, &mut merged, config);
    Ok(merged)
}

/// The paths of what is there only as a whole.
fn collect(ty: Type<'_>, value: &Value, path: &mut String, atomics: &mut Vec<String>) {
    let Some(ty) = ty else { return };
    let length = path.len();
    match value {
        Value::Object(map) if matches!(ty.kind(), Kind::Struct | Kind::Map | Kind::Any) => {
            if ty.relation() == Relation::Atomic {
                atomics.push(path.clone());
            }
            for (name, value) in map {
                let _ = write!(path, ".{name}");
                collect(super::walk::child(Some(ty), name), value, path, atomics);
                path.truncate(length);
            }
        }
        Value::Array(items) if matches!(ty.kind(), Kind::List | Kind::Any) => {
            if ty.relation() == Relation::Atomic {
                atomics.push(path.clone());
            }
            if ty.kind() == Kind::List {
                for (i, item) in items.iter().enumerate() {
                    let _ = write!(path, "[{i}]");
                    collect(Some(ty.element()), item, path, atomics);
                    path.truncate(length);
                }
            }
        }
        _ => {}
    }
}
