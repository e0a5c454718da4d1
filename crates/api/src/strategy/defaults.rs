//! Defaults that several kinds share.

use serde_json::{Map, Value};

use crate::{
    quantity::Quantity,
    value::{Object, object_mut, set_default, text},
};

/// `spec` of an object, made where it is missing so that its defaults show.
pub(super) fn spec(object: &mut Value) -> Option<&mut Object> {
    crate::value::object_at(object.as_object_mut()?, "spec")
}

/// Puts every amount of a resource list into canonical form, rounded up to thousandths.
pub(super) fn resource_list(owner: &mut Object, key: &str) {
    let Some(list) = owner.get_mut(key).and_then(Value::as_object_mut) else { return };
    for amount in list.values_mut() {
        let Ok(quantity) = Quantity::from_value(amount) else { continue };
        let canonical = quantity.rounded_to_milli().to_string();
        if text(amount) != canonical {
            *amount = Value::String(canonical);
        }
    }
}

/// An empty object where there is none, as fields that upstream always writes have it.
pub(super) fn empty_object(owner: &mut Object, key: &str) {
    set_default(owner, key, Value::Object(Map::new()));
}

/// Both lists of a `ResourceRequirements` in canonical form.
pub(super) fn resources(owner: &mut Object) {
    let Some(resources) = owner.get_mut("resources").and_then(Value::as_object_mut) else { return };
    resource_list(resources, "limits");
    resource_list(resources, "requests");
}

/// Drops fields that upstream holds by value and does not write when they are zero.
pub(super) fn drop_zero(owner: &mut Object, keys: &[&str]) {
    for key in keys {
        if owner.get(*key).is_some_and(|value| value.as_i64() == Some(0)) {
            owner.remove(*key);
        }
    }
}

/// Lists `a` and `b` of `status` in canonical form.
pub(super) fn status_resource_lists(object: &mut Value, keys: &[&str]) {
    if let Some(status) = object_mut(object, "status") {
        for key in keys {
            resource_list(status, key);
        }
    }
}
