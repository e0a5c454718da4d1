//! Which requests of nodes are approved without anybody being asked, and which are turned down. Pure.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/#approval>)

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_client::meta;

use super::plan::{KUBELET_CLIENT, KUBELET_SERVING, Requested};

const NODES: &str = "system:nodes";

#[derive(Debug, PartialEq, Eq)]
pub enum Approval {
    /// It is for people to decide, or was decided.
    None,
    /// Approved where the one who asks may `create` one of these subresources of requests; each with the message.
    Ask(Vec<(&'static str, &'static str)>),
    Approve(&'static str),
    /// What is known of the node does not cover what it asks for, and may in a moment.
    Later,
    Deny(String),
}

pub fn approval(request: &CertificateSigningRequest, asked: &Requested, nodes: &[Arc<Node>]) -> Approval {
    let status = request.status.as_ref();
    let is_decided = status.and_then(|status| status.conditions.as_ref()).is_some_and(|list| !list.is_empty());
    let Some(name) = asked.common_name.strip_prefix("system:node:").filter(|name| !name.is_empty()) else {
        return Approval::None;
    };
    if is_decided || asked.organizations != [NODES] || asked.other_names > 0 {
        return Approval::None;
    }
    let by_itself = request.spec.username.as_deref() == Some(&asked.common_name);
    let node = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name));
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT
            if asked.dns_names.is_empty() && asked.addresses.is_empty() && is_for(request, "client auth") =>
        {
            let own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
            let any = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
            if by_itself {
                return Approval::Ask(vec![own, any]);
            }
            match node.filter(|node| is_alive(node) && is_elsewhere(request, node)) {
                Some(_) => Approval::Deny(format!(
                    "a node named {name} is part of the cluster already and runs on another machine"
                )),
                None => Approval::Ask(vec![any]),
            }
        }
        KUBELET_SERVING if by_itself && is_in(request, NODES) && is_for(request, "server auth") => {
            if !asked.dns_names.iter().all(|dns| dns == name) {
                return Approval::None;
            }
            match node {
                Some(node) if asked.addresses.iter().all(|ip| is_only_of(ip, node, nodes)) => Approval::Approve(
                    "Auto approving kubelet serving certificate for the node's own name and addresses.",
                ),
                _ => Approval::Later,
            }
        }
        _ => Approval::None,
    }
}

/// The one purpose, and the two ways in which TLS uses a key; exactly these, as upstream has it.
fn is_for(request: &CertificateSigningRequest, purpose: &str) -> bool {
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let has = |wanted: &str| usages.iter().any(|usage| usage == wanted);
    let known = ["digital signature", "key encipherment", purpose];
    has(purpose) && has("digital signature") && usages.iter().all(|usage| known.contains(&usage.as_str()))
}

fn is_in(request: &CertificateSigningRequest, group: &str) -> bool {
    request.spec.groups.iter().flatten().any(|of| of == group)
}

/// Unknown is what the node controller makes of one that says nothing.
fn is_alive(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == "Ready").is_some_and(|ready| ready.status != "Unknown")
}

fn is_elsewhere(request: &CertificateSigningRequest, node: &Node) -> bool {
    let machine = |metadata| meta::annotation(metadata, meta::MACHINE);
    machine(&node.metadata) != machine(&request.metadata)
}

/// An address that two nodes call theirs is vouched for to neither.
fn is_only_of(ip: &IpAddr, node: &Node, nodes: &[Arc<Node>]) -> bool {
    let has = |node: &Node| {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        addresses.into_iter().any(|address| address.address.parse() == Ok(*ip))
    };
    has(node) && !nodes.iter().any(|other| other.metadata.name != node.metadata.name && has(other))
}

/// The request with the decision in its status.
pub fn decided(
    request: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut changed = request.clone();
    changed.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        },
    );
    changed
}

const KEPT_DECIDED: Duration = Duration::from_secs(60 * 60);
const KEPT_UNDECIDED: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the request is still to be kept; nothing is left of the time where it may go. Decided ones stay for an hour,
/// others for a day, as upstream's csrcleaner has it.
pub fn kept(request: &CertificateSigningRequest, now: Timestamp) -> Duration {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let decided = conditions.filter_map(|condition| Some(condition.last_update_time.as_ref()?.0)).max();
    let created = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let (since, keep) = decided.map_or((created, KEPT_UNDECIDED), |at| (at, KEPT_DECIDED));
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    keep.saturating_sub(age)
}
