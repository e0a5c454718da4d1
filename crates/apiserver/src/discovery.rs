//! Discovery: which groups, versions and resources are served.
//! (<https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>)

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use knarr_api::{
    registry::{Resource, Subresource, Verb},
    status::ApiError,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    codec::{Accept, respond},
    contract::Response,
    custom::Snapshot,
};

/// Groups in the order in which clients prefer them, which decides what a short name means. Groups that are not
/// named here follow in alphabetical order, those of definitions among them.
const GROUP_ORDER: [&str; 22] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
];

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A group and its versions, the preferred one first.
struct Group {
    name: &'static str,
    versions: Vec<(&'static str, Vec<&'static Resource>)>,
}

/// The aggregated documents, written when somebody asks and kept until something else is served.
#[derive(Default)]
pub struct Discovery {
    kept: Mutex<Arc<Documents>>,
}

#[derive(Default)]
struct Documents {
    /// Of the catalogue.
    generation: u64,
    core: OnceLock<(Bytes, String)>,
    named: OnceLock<(Bytes, String)>,
}

/// How early a version comes: those that are stable first, then beta and alpha ones, and the newest of each first. What
/// is called otherwise comes last, in alphabetical order.
/// (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority>)
type Priority = (Reverse<(u8, u64, u64)>, &'static str);

fn priority(version: &'static str) -> Priority {
    let parsed = || {
        let rest = version.strip_prefix('v')?;
        let (major, stage, minor) = match (rest.split_once("alpha"), rest.split_once("beta")) {
            (Some((major, minor)), _) => (major, 1, minor),
            (None, Some((major, minor))) => (major, 2, minor),
            (None, None) => (rest, 3, "1"),
        };
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        Some((stage, number(major)?, number(minor)?))
    };
    (Reverse(parsed().unwrap_or_default()), version)
}

fn groups(snapshot: &Snapshot) -> Vec<Group> {
    let mut found: BTreeMap<(usize, &'static str), BTreeMap<Priority, Vec<&'static Resource>>> = BTreeMap::new();
    for resource in snapshot.rows() {
        let place = GROUP_ORDER.iter().position(|name| *name == resource.group).unwrap_or(GROUP_ORDER.len());
        let versions = found.entry((place, resource.group)).or_default();
        versions.entry(priority(resource.version)).or_default().push(resource);
    }
    let names = |versions: BTreeMap<Priority, _>| versions.into_iter().map(|((_, name), rows)| (name, rows)).collect();
    found.into_iter().map(|((_, name), versions)| Group { name, versions: names(versions) }).collect()
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl Discovery {
    /// Answers below `/api` and `/apis`; `None` where there is no such path. The aggregated form is one that only
    /// these paths know, so whoever accepts nothing else is still served.
    pub fn answer(
        &self,
        snapshot: &Snapshot,
        path: &str,
        headers: &HeaderMap,
        accept: Result<Accept, ApiError>,
    ) -> Result<Option<Response>, ApiError> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let value = match segments.as_slice() {
            ["api"] if wants_aggregated(headers) => return Ok(Some(self.aggregated(snapshot, headers, true))),
            ["apis"] if wants_aggregated(headers) => return Ok(Some(self.aggregated(snapshot, headers, false))),
            _ => match plain(snapshot, &segments) {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        Ok(Some(respond::render(StatusCode::OK, value.to_string().into(), accept?)))
    }

    /// `/`: the paths that there are.
    pub fn root(&self, snapshot: &Snapshot) -> Response {
        let mut paths: Vec<String> = vec!["/api".into(), "/api/v1".into(), "/apis".into()];
        for group in groups(snapshot).iter().filter(|group| !group.name.is_empty()) {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(group.versions.iter().map(|(version, _)| format!("/apis/{}/{version}", group.name)));
        }
        paths.extend(
            ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(String::from),
        );
        let body = json!({"paths": paths});
        respond::render(StatusCode::OK, body.to_string().into(), Accept { pretty: true, ..Accept::JSON })
    }

    fn aggregated(&self, snapshot: &Snapshot, headers: &HeaderMap, core: bool) -> Response {
        let documents = self.documents(snapshot.generation);
        let kept = if core { &documents.core } else { &documents.named };
        aggregated(snapshot, kept, headers, core)
    }

    fn documents(&self, generation: u64) -> Arc<Documents> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            *kept = Arc::new(Documents { generation, ..Documents::default() });
        }
        kept.clone()
    }
}

/// The documents of the time before the aggregated form.
fn plain(snapshot: &Snapshot, path: &[&str]) -> Option<Value> {
    match path {
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let groups = groups(snapshot);
            let groups: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(api_group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let groups = groups(snapshot);
            let mut group = api_group(groups.iter().find(|group| group.name == *name && !name.is_empty())?);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["api", version] => resource_list(snapshot, "", version),
        ["apis", group, version] if !group.is_empty() => resource_list(snapshot, group, version),
        _ => None,
    }
}

fn api_group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": group_version(group.name, version), "version": version}))
        .collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions[0]})
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

fn resource_list(snapshot: &Snapshot, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in snapshot.rows().filter(|resource| resource.group == group && resource.version == version) {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": verbs(resource.verbs),
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = resource.short_names.into();
        }
        if !resource.categories.is_empty() {
            entry["categories"] = resource.categories.into();
        }
        resources.push(entry);
        for sub in resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": sub.kind, "verbs": verbs(sub.verbs),
            });
            if (sub.group, sub.version) != (resource.group, resource.version) {
                entry["group"] = sub.group.into();
                entry["version"] = sub.version.into();
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version),
        "resources": resources,
    }))
}

/// kubectl and client-go ask for the aggregated form first and say so in the header.
fn wants_aggregated(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|clause| {
            let has = |part: &str| clause.split(';').any(|one| one.trim() == part);
            has("application/json") && has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
        })
}

fn aggregated(snapshot: &Snapshot, kept: &OnceLock<(Bytes, String)>, headers: &HeaderMap, core: bool) -> Response {
    let (body, etag) = kept.get_or_init(|| {
        let items: Vec<Value> =
            groups(snapshot).iter().filter(|group| group.name.is_empty() == core).map(group_discovery).collect();
        let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
        let body = list.to_string();
        let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect();
        (body.into(), format!("\"{hash}\""))
    });
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = respond::conditional(known, AGGREGATED, body.clone());
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

fn group_discovery(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<Value> = resources.iter().map(|resource| resource_discovery(resource)).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let metadata = if group.name.is_empty() {
        json!({"creationTimestamp": null})
    } else {
        json!({"name": group.name, "creationTimestamp": null})
    };
    json!({"metadata": metadata, "versions": versions})
}

fn resource_discovery(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(resource.group, resource.version, resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource.verbs),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        entry["categories"] = resource.categories.into();
    }
    if !resource.subresources.is_empty() {
        let describe = |sub: &Subresource| json!({"subresource": sub.name, "responseKind": kind(sub.group, sub.version, sub.kind), "verbs": verbs(sub.verbs)});
        entry["subresources"] = resource.subresources.iter().map(describe).collect();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::priority;

    #[test]
    fn versions_come_in_upstreams_order() {
        let expected =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        let mut versions = expected;
        versions.reverse();
        versions.sort_by_key(|version| priority(version));
        assert_eq!(versions, expected);
    }
}
