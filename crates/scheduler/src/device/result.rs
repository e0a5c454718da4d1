//! What was found, as a claim's status says it.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
    resource::v1::{
        AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceClaimConfiguration,
        DeviceRequestAllocationResult,
    },
};
use knarr_client::meta;

use super::{
    allocate::Chosen,
    ask::{Ask, Choice, Request},
    pool::{Candidate, Nodes, Pool},
};

/// One for each claim, in their order.
pub fn allocations(asks: &[Ask], pools: &[Pool<'_>], chosen: &[Chosen], node: &str) -> Vec<AllocationResult> {
    let of_claim = |claim: usize| chosen.iter().filter(move |one| one.claim == claim);
    let one = |(claim, ask): (usize, &Ask)| {
        let candidates: Vec<_> = of_claim(claim).map(|one| &pools[one.device.0].devices[one.device.1]).collect();
        let choices: Vec<_> = of_claim(claim).map(|one| &ask.requests[one.request].choices[one.choice]).collect();
        let results = choices.iter().zip(&candidates).map(|(choice, candidate)| result(choice, candidate)).collect();
        let taken = ask.requests.iter().enumerate().filter_map(|(at, request)| {
            let choice = of_claim(claim).find(|one| one.request == at)?.choice;
            Some((request, &request.choices[choice]))
        });
        let config = config(ask, &taken.collect::<Vec<_>>());
        AllocationResult {
            allocation_timestamp: None,
            devices: Some(DeviceAllocationResult {
                config: Some(config).filter(|config| !config.is_empty()),
                results: Some(results),
            }),
            node_selector: node_selector(&candidates, node),
        }
    };
    asks.iter().enumerate().map(one).collect()
}

fn result(choice: &Choice, candidate: &Candidate<'_>) -> DeviceRequestAllocationResult {
    DeviceRequestAllocationResult {
        admin_access: choice.admin_access.then_some(true),
        device: candidate.id.device.clone(),
        driver: candidate.id.driver.clone(),
        pool: candidate.id.pool.clone(),
        request: choice.name.clone(),
        tolerations: Some(choice.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        ..DeviceRequestAllocationResult::default()
    }
}

/// Of each class once, with the requests that want it; then the claim's own, as far as they are for a request that was
/// taken.
fn config(ask: &Ask, taken: &[(&Request, &Choice)]) -> Vec<DeviceAllocationConfiguration> {
    let mut all = Vec::new();
    let mut by_class: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut classes = Vec::new();
    for (_, choice) in taken {
        let requests = by_class.entry(meta::name(&choice.class.metadata)).or_insert_with(|| {
            classes.push(&choice.class);
            Vec::new()
        });
        requests.push(choice.name.clone());
    }
    for class in classes {
        all.extend(class.spec.config.iter().flatten().map(|config| DeviceAllocationConfiguration {
            opaque: config.opaque.clone(),
            requests: by_class.get(meta::name(&class.metadata)).cloned(),
            source: "FromClass".to_owned(),
        }));
    }
    let is_meant = |config: &&DeviceClaimConfiguration| {
        let requests = config.requests.as_deref().unwrap_or_default();
        let named = |(request, choice): &(&Request, &Choice)| {
            requests.iter().any(|name| *name == request.name || *name == choice.name)
        };
        requests.is_empty() || taken.iter().any(named)
    };
    let own = ask.claim.spec.devices.iter().flat_map(|devices| devices.config.iter().flatten());
    all.extend(own.filter(is_meant).map(|config| DeviceAllocationConfiguration {
        opaque: config.opaque.clone(),
        requests: config.requests.clone(),
        source: "FromClaim".to_owned(),
    }));
    all
}

/// Where all of the devices can be reached; `None` for everywhere.
fn node_selector(candidates: &[&Candidate<'_>], node: &str) -> Option<NodeSelector> {
    let mut whole = NodeSelectorTerm::default();
    for nodes in candidates.iter().filter_map(|candidate| candidate.nodes) {
        match nodes {
            Nodes::Named(_) => {
                let term = NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![named(node)]) };
                return Some(NodeSelector { node_selector_terms: vec![term] });
            }
            Nodes::Selected(selector) => {
                // There is exactly one term in a slice.
                for term in &selector.node_selector_terms {
                    add(&mut whole.match_expressions, term.match_expressions.as_deref());
                    add(&mut whole.match_fields, term.match_fields.as_deref());
                }
            }
        }
    }
    let is_anywhere = whole == NodeSelectorTerm::default();
    (!is_anywhere).then(|| NodeSelector { node_selector_terms: vec![whole] })
}

fn named(node: &str) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    }
}

fn add(all: &mut Option<Vec<NodeSelectorRequirement>>, more: Option<&[NodeSelectorRequirement]>) {
    for requirement in more.unwrap_or_default() {
        let all = all.get_or_insert_default();
        if !all.contains(requirement) {
            all.push(requirement.clone());
        }
    }
}
