use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    quantity::Quantity,
    strategy::{check, rules::Errors},
    value::{entries, items},
};

/// The `ResourceRequirements` of a container: known names, whole amounts, and no request above its limit.
pub(super) fn validate(requirements: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if requirements.is_null() {
        return;
    }
    let limits_path = path.child("limits");
    for (resource, amount) in entries(&requirements["limits"]) {
        amount_of(resource, amount, &limits_path.key(resource), errors);
    }
    let requests_path = path.child("requests");
    let limits = &requirements["limits"];
    for (resource, amount) in entries(&requirements["requests"]) {
        let Some(request) = amount_of(resource, amount, &requests_path.key(resource), errors) else { continue };
        let overcommit = may_overcommit(resource);
        match limits.get(resource) {
            Some(limit) => {
                let limit = Quantity::or_zero(limit);
                let why = match overcommit {
                    false if request != limit => "must be equal to",
                    true if request > limit => "must be less than or equal to",
                    _ => continue,
                };
                let why = format!("{why} {resource} limit of {limit}");
                errors.push(FieldError::invalid(&requests_path, request.to_string(), why));
            }
            None if !overcommit => {
                errors.push(FieldError::required(&limits_path, "Limit must be set for non overcommitable resources"));
            }
            None => {}
        }
    }
    let claims = path.child("claims");
    for (i, claim) in items(&requirements["claims"]).iter().enumerate() {
        check::required(&claim["name"], &claims.index(i), errors);
    }
}

fn amount_of(resource: &str, amount: &Value, path: &FieldPath<'_>, errors: &mut Errors) -> Option<Quantity> {
    let faults = names::qualified_name(resource);
    if !faults.is_empty() {
        check::faults(faults, resource, path, errors);
    } else if !resource.contains('/') && !is_standard(resource) {
        errors.push(FieldError::invalid(path, resource, "must be a standard resource type or fully qualified"));
        errors.push(FieldError::invalid(path, resource, "must be a standard resource for containers"));
    }
    let quantity = check::quantity(amount, path, errors)?;
    if quantity.is_negative() {
        errors.push(FieldError::invalid(path, amount.clone(), check::NOT_NEGATIVE));
    } else if resource.contains('/') && !quantity.milli_value().unsigned_abs().is_multiple_of(1000) {
        errors.push(FieldError::invalid(path, amount.clone(), "must be an integer"));
    }
    Some(quantity)
}

fn is_standard(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-")
}

/// Huge pages and extended resources are handed out exactly.
fn may_overcommit(resource: &str) -> bool {
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    native && !resource.starts_with("hugepages-")
}
