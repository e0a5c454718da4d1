//! Which addresses an Ingress has. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::Node,
        networking::v1::{Ingress, IngressClass, IngressClassSpec, IngressLoadBalancerIngress},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::meta;

/// The class that is made where there is none, and the controller that any class of ours names.
pub const CLASS: &str = "knarr";
const CONTROLLER: &str = "knarr.dev/ingress";
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Clients need one that answers, not a list of the whole cluster.
const MAX_ADDRESSES: usize = 16;

/// The class to be made; the default one, where no other is.
pub fn missing_class(classes: &[Arc<IngressClass>]) -> Option<IngressClass> {
    if classes.iter().any(|class| meta::name(&class.metadata) == CLASS) {
        return None;
    }
    let has_default = classes.iter().any(|class| meta::annotation(&class.metadata, IS_DEFAULT) == Some("true"));
    let annotations = (!has_default).then(|| BTreeMap::from([(IS_DEFAULT.to_owned(), "true".to_owned())]));
    Some(IngressClass {
        metadata: ObjectMeta { name: Some(CLASS.to_owned()), annotations, ..ObjectMeta::default() },
        spec: Some(IngressClassSpec { controller: Some(CONTROLLER.to_owned()), parameters: None }),
    })
}

/// The address of a node that is Ready: its external one, else its internal one.
pub fn address(node: &Node) -> Option<&str> {
    let status = node.status.as_ref()?;
    let is_ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let of_type = |kind| status.addresses.iter().flatten().find(|address| address.type_ == kind);
    let address = of_type("ExternalIP").or_else(|| of_type("InternalIP"))?;
    (is_ready && node.metadata.deletion_timestamp.is_none()).then_some(address.address.as_str())
}

/// The addresses that an Ingress of ours should show, where it shows others.
pub fn status(
    ingress: &Ingress,
    classes: &[Arc<IngressClass>],
    nodes: &[Arc<Node>],
) -> Option<Vec<IngressLoadBalancerIngress>> {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let named = named.or_else(|| meta::annotation(&ingress.metadata, CLASS_ANNOTATION))?;
    let class = classes.iter().find(|class| meta::name(&class.metadata) == named)?;
    if class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) != Some(CONTROLLER) {
        return None;
    }
    let mut addresses: Vec<&str> = nodes.iter().filter_map(|node| address(node)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    let shown = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref());
    let shown: Vec<&str> = shown.unwrap_or_default().iter().filter_map(|one| one.ip.as_deref()).collect();
    if shown == addresses {
        return None;
    }
    let entry = |ip: &str| IngressLoadBalancerIngress { ip: Some(ip.to_owned()), ..Default::default() };
    Some(addresses.into_iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ip: &str, ready: &str) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}], "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn an_ingress_shows_the_nodes_that_are_ready() {
        let class = missing_class(&[]).unwrap();
        assert_eq!(meta::annotation(&class.metadata, IS_DEFAULT), Some("true"));
        let mut theirs = class.clone();
        theirs.metadata.name = Some("theirs".to_owned());
        theirs.spec = Some(IngressClassSpec { controller: Some("example.org/theirs".to_owned()), parameters: None });
        let classes = [Arc::new(class), Arc::new(theirs)];
        assert_eq!(missing_class(&classes), None);
        let nodes = [node("b", "10.0.0.2", "True"), node("a", "10.0.0.1", "True"), node("c", "10.0.0.3", "Unknown")];
        for (class, shown, expected) in [
            ("knarr", &[][..], Some(&["10.0.0.1", "10.0.0.2"][..])),
            ("knarr", &["10.0.0.1", "10.0.0.2"], None),
            ("knarr", &["10.0.0.3"], Some(&["10.0.0.1", "10.0.0.2"])),
            ("other", &[], None),
            ("other", &["192.0.2.1"], None),
            ("theirs", &["192.0.2.1"], None),
        ] {
            let shown: Vec<_> = shown.iter().map(|ip| json!({"ip": ip})).collect();
            let ingress = json!({
                "metadata": {"name": "i"}, "spec": {"ingressClassName": class},
                "status": {"loadBalancer": {"ingress": shown}},
            });
            let ingress: Ingress = serde_json::from_value(ingress).unwrap();
            let found = status(&ingress, &classes, &nodes);
            let found = found.map(|all| all.into_iter().filter_map(|one| one.ip).collect::<Vec<_>>());
            assert_eq!(
                found.as_deref(),
                expected.map(|all| all.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>()).as_deref()
            );
        }
    }
}
