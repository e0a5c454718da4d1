//! Discovery: which groups, versions and resources are served.
//! (<https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>)

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use knarr_api::{
    registry::{Resource, Subresource, Verb},
    status::ApiError,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    aggregation::{Document, View},
    codec::{Accept, respond},
    contract::Response,
    custom::Snapshot,
};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A group and its versions, the preferred one first.
struct Group {
    name: String,
    versions: Vec<Version>,
}

struct Version {
    name: String,
    content: Content,
}

enum Content {
    Own(Vec<&'static Resource>),
    /// What another server says of it, as aggregated discovery has it; nothing where it has said nothing yet.
    Elsewhere(Option<Arc<Document>>),
}

/// The aggregated documents, written when somebody asks and kept until something else is served.
#[derive(Default)]
pub struct Discovery {
    /// `host:port` of this server as clients elsewhere reach it, where that is known.
    address: Option<String>,
    kept: Mutex<Arc<Documents>>,
}

#[derive(Default)]
struct Documents {
    /// Of what is served, here and elsewhere.
    generation: (u64, u64, u64),
    core: OnceLock<(Bytes, String)>,
    named: OnceLock<(Bytes, String)>,
}

/// How early a version comes: those that are stable first, then beta and alpha ones, and the newest of each first. What
/// is called otherwise comes last, in alphabetical order.
/// (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority>)
type Priority = (Reverse<(u8, u64, u64)>, String);

fn priority(version: &str) -> Priority {
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
    (Reverse(parsed().unwrap_or_default()), version.to_owned())
}

/// Groups in the order in which clients prefer them, which decides what a short name means: the APIServices say which,
/// and where they agree the alphabet.
fn groups(view: &View) -> Vec<Group> {
    let mut found: BTreeMap<&str, BTreeMap<&str, Content>> = BTreeMap::new();
    for resource in view.snapshot.rows().filter(|row| !view.is_elsewhere(row.group, row.version)) {
        let versions = found.entry(resource.group).or_default();
        let content = versions.entry(resource.version).or_insert_with(|| Content::Own(Vec::new()));
        if let Content::Own(rows) = content {
            rows.push(resource);
        }
    }
    for (route, document) in view.elsewhere() {
        let versions = found.entry(&route.group).or_default();
        versions.insert(&route.version, Content::Elsewhere(document.cloned()));
    }
    let mut groups: Vec<(Reverse<i64>, Group)> = Vec::new();
    for (name, versions) in found {
        let first = versions.keys().map(|version| view.priority(name, version).0).max().unwrap_or_default();
        let mut versions: Vec<_> = versions.into_iter().collect();
        versions.sort_by_cached_key(|(version, _)| (Reverse(view.priority(name, version).1), priority(version)));
        let versions = versions.into_iter().map(|(name, content)| Version { name: name.to_owned(), content });
        groups.push((Reverse(first), Group { name: name.to_owned(), versions: versions.collect() }));
    }
    // The sort is stable, and they came in alphabetical order.
    groups.sort_by_key(|(first, _)| *first);
    groups.into_iter().map(|(_, group)| group).collect()
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl Discovery {
    pub fn at(address: Option<String>) -> Self {
        Self { address, ..Self::default() }
    }

    /// Answers below `/api` and `/apis`; `None` where there is no such path. The aggregated form is one that only
    /// these paths know, so whoever accepts nothing else is still served.
    pub fn answer(
        &self,
        view: &View,
        path: &str,
        headers: &HeaderMap,
        accept: Result<Accept, ApiError>,
    ) -> Result<Option<Response>, ApiError> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let value = match segments.as_slice() {
            ["api"] if wants_aggregated(headers) => return Ok(Some(self.aggregated(view, headers, true))),
            ["apis"] if wants_aggregated(headers) => return Ok(Some(self.aggregated(view, headers, false))),
            ["api"] => self.legacy(),
            _ => match plain(view, &segments) {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        Ok(Some(respond::render(StatusCode::OK, value.to_string().into(), accept?)))
    }

    /// `/api`: the versions of the core group, and where to find them.
    fn legacy(&self) -> Value {
        let everybody = |address: &String| json!({"clientCIDR": "0.0.0.0/0", "serverAddress": address});
        let addresses: Vec<Value> = self.address.iter().map(everybody).collect();
        json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses})
    }

    /// `/`: the paths that there are.
    pub fn root(&self, view: &View) -> Response {
        let mut paths: Vec<String> = vec!["/api".into(), "/api/v1".into(), "/apis".into()];
        for group in groups(view).iter().filter(|group| !group.name.is_empty()) {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name)));
        }
        paths.extend(
            ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(String::from),
        );
        let body = json!({"paths": paths});
        respond::render(StatusCode::OK, body.to_string().into(), Accept { pretty: true, ..Accept::JSON })
    }

    fn aggregated(&self, view: &View, headers: &HeaderMap, core: bool) -> Response {
        let documents = self.documents(view.generation());
        let kept = if core { &documents.core } else { &documents.named };
        aggregated(view, kept, headers, core)
    }

    fn documents(&self, generation: (u64, u64, u64)) -> Arc<Documents> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            *kept = Arc::new(Documents { generation, ..Documents::default() });
        }
        kept.clone()
    }
}

/// The documents of the time before the aggregated form.
fn plain(view: &View, path: &[&str]) -> Option<Value> {
    match path {
        ["apis"] => {
            let groups = groups(view);
            let groups: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(api_group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let groups = groups(view);
            let mut group = api_group(groups.iter().find(|group| group.name == *name && !name.is_empty())?);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["api", version] => resource_list(&view.snapshot, "", version),
        ["apis", group, version] if !group.is_empty() => resource_list(&view.snapshot, group, version),
        _ => None,
    }
}

fn api_group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(&group.name, &version.name), "version": version.name}))
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
        // What cannot be watched is answered, and not stored.
        if resource.allows(Verb::Watch) {
            entry["storageVersionHash"] = storage_version_hash(snapshot.stored_as(resource)).into();
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

/// Names the form in which objects are stored, so that who rewrites stored objects sees when it changes. Clients are to
/// compare it only, and yet it is upstream's.
/// (<https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#apiresource-v1-meta>)
fn storage_version_hash(stored: &Resource) -> String {
    let (group, version, kind) = stored.gvk();
    STANDARD.encode(&Sha256::digest(format!("{group}/{version}/{kind}"))[..8])
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

fn aggregated(view: &View, kept: &OnceLock<(Bytes, String)>, headers: &HeaderMap, core: bool) -> Response {
    let (body, etag) = kept.get_or_init(|| {
        let items: Vec<Value> =
            groups(view).iter().filter(|group| group.name.is_empty() == core).map(group_discovery).collect();
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
        .map(|version| match &version.content {
            Content::Own(rows) => {
                let resources: Vec<Value> = rows.iter().map(|resource| resource_discovery(resource)).collect();
                json!({"version": version.name, "freshness": "Current", "resources": resources})
            }
            Content::Elsewhere(Some(document)) => document.discovery.clone(),
            Content::Elsewhere(None) => json!({"version": version.name, "freshness": "Stale"}),
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
