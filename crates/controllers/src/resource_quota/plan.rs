//! What a quota speaks of, and how much of it is used. Pure.

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_api::{
    quantity,
    quota::{amounts, concerns, in_scope, usage},
    registry::{Resource, builtins},
};
use serde_json::Value;

/// The resources that a quota's limits are about, each once, in the version in which it is stored.
pub fn resources(quota: &ResourceQuota) -> Vec<&'static Resource> {
    let hard = quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten());
    let names: Vec<&String> = hard.map(|(name, _)| name).collect();
    let is_wanted = |resource: &&'static Resource| {
        resource.namespaced
            && resource.same(resource.stored_as())
            && resource.verbs.iter().any(|verb| verb.as_str() == "watch")
            && names.iter().any(|name| concerns(resource, name))
    };
    builtins().iter().filter(is_wanted).collect()
}

/// Limits on numbers of objects that no built-in is about, by what they count: `widgets.example.com`. It is a custom
/// resource, or nothing at all.
pub fn customs(quota: &ResourceQuota) -> Vec<&str> {
    let hard = quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten());
    let counted = hard.filter(|(name, _)| !builtins().iter().any(|resource| concerns(resource, name)));
    counted.filter_map(|(name, _)| name.strip_prefix("count/")).collect()
}

/// The status: the limits as they are, and what is used of each that is about some resource. `customs` is how many there
/// are of those that [`customs`] names and that are served.
pub fn status(
    quota: &ResourceQuota,
    objects: &[(&'static Resource, Vec<Value>)],
    customs: &[(String, usize)],
) -> ResourceQuotaStatus {
    let hard = quota.spec.clone().unwrap_or_default().hard.unwrap_or_default();
    let scopes = serde_json::to_value(quota).unwrap_or_default();
    let mut sum = amounts::Amounts::new();
    for (resource, objects) in objects {
        for object in objects.iter().filter(|object| in_scope(&scopes, resource, object)) {
            amounts::add(&mut sum, &usage(resource, object));
        }
    }
    for (resource, count) in customs {
        let count = quantity::Quantity::new(i64::try_from(*count).unwrap_or(i64::MAX), quantity::Format::DecimalSi);
        amounts::add(&mut sum, &amounts::Amounts::from([(format!("count/{resource}"), count)]));
    }
    let is_custom =
        |name: &String| customs.iter().any(|(resource, _)| name.strip_prefix("count/") == Some(resource.as_str()));
    let is_known = |name: &String| objects.iter().any(|(resource, _)| concerns(resource, name));
    let used = hard.keys().filter(|name| is_known(name) || is_custom(name)).map(|name| {
        let amount = sum.get(name).copied().unwrap_or(quantity::Quantity::ZERO);
        (name.clone(), Quantity(amount.to_string()))
    });
    ResourceQuotaStatus { used: Some(used.collect()), hard: Some(hard) }
}
