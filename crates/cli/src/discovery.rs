//! What the server can do, and which of it a word on the command line means.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use crate::{api::Api, error::Result, fail};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub short: Vec<String>,
    pub categories: Vec<String>,
    /// Subresources with the kind that each takes.
    pub subresources: Vec<(String, String)>,
    /// Of its group's versions that have the resource this is the one that the server prefers.
    pub preferred: bool,
}

impl Resource {
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployments.apps`, as messages name it.
    pub fn qualified(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// `deployment.apps`, as `-o name` prints it.
    pub fn kind_name(&self) -> String {
        qualified(&self.kind.to_lowercase(), &self.group)
    }

    /// The path of a list, an object or one of its subresources.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> String {
        let mut path = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if let Some(namespace) = namespace.filter(|namespace| self.namespaced && !namespace.is_empty()) {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", self.plural);
        for part in [name, subresource].into_iter().flatten().filter(|part| !part.is_empty()) {
            path = format!("{path}/{}", escape(part));
        }
        path
    }

    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    pub fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|(name, _)| name == subresource)
    }
}

/// A name may hold what a path may not, such as the colons of `system:node`.
fn escape(part: &str) -> String {
    part.bytes()
        .map(|b| match b {
            b'%' | b' ' | b'?' | b'#' => format!("%{b:02X}"),
            b => char::from(b).to_string(),
        })
        .collect()
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.into() } else { format!("{name}.{group}") }
}

#[derive(Clone, Debug, Default)]
pub struct Discovery {
    pub resources: Vec<Arc<Resource>>,
}

impl Discovery {
    pub async fn load(api: &Api) -> Result<Self> {
        let (core, groups) = tokio::try_join!(api.get_as("/api", AGGREGATED), api.get_as("/apis", AGGREGATED))?;
        Ok(Self { resources: parse(&core).chain(parse(&groups)).map(Arc::new).collect() })
    }

    /// The resource that a word means: a plural, singular, short name or kind, with its group and version or without.
    pub fn find(&self, word: &str) -> Result<Arc<Resource>> {
        self.lookup(word).ok_or_else(|| fail!("the server doesn't have a resource type \"{word}\""))
    }

    fn lookup(&self, word: &str) -> Option<Arc<Resource>> {
        let lower = word.to_lowercase();
        let mut parts = lower.splitn(3, '.');
        let (name, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        // NAME.VERSION.GROUP first, where that version exists; then NAME.GROUP.
        if let (Some(version), Some(group)) = (second, third)
            && let Some(found) = self.named(name, |r| r.version == version && r.group == group)
        {
            return Some(found);
        }
        match lower.split_once('.') {
            None => self.named(name, |_| true),
            Some((name, group)) => {
                let exact = self.named(name, |r| r.group == group);
                // Core has no group: `pods.v1.` names its version.
                let core = || self.named(name, |r| r.group.is_empty() && r.version == group.trim_end_matches('.'));
                exact.or_else(core).or_else(|| self.named(name, |r| r.group.starts_with(&format!("{group}."))))
            }
        }
    }

    fn named(&self, name: &str, fits: impl Fn(&Resource) -> bool) -> Option<Arc<Resource>> {
        let ways: [fn(&Resource, &str) -> bool; 3] = [
            |r, name| r.plural == name || r.singular == name,
            |r, name| r.short.iter().any(|short| short == name),
            |r, name| r.kind.to_lowercase() == name,
        ];
        let candidates = || self.resources.iter().filter(|r| fits(r));
        ways.iter().find_map(|way| {
            let preferred = candidates().find(|r| r.preferred && way(r, name));
            preferred.or_else(|| candidates().find(|r| way(r, name))).cloned()
        })
    }

    /// All resources of a category such as `all`; empty where there is no such category.
    pub fn category(&self, word: &str) -> Vec<Arc<Resource>> {
        let in_it = |r: &&Arc<Resource>| r.preferred && r.categories.iter().any(|category| category == word);
        self.resources.iter().filter(in_it).cloned().collect()
    }

    /// The resource that an object of a file is stored as.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        self.resources.iter().find(|r| r.kind == kind && r.api_version() == api_version).cloned()
    }

    /// The first of a group's versions that has the resource.
    pub fn by_plural(&self, group: &str, plural: &str) -> Result<Arc<Resource>> {
        let found = self.resources.iter().find(|r| r.group == group && r.plural == plural).cloned();
        found.ok_or_else(|| fail!("the server doesn't have a resource type \"{}\"", qualified(plural, group)))
    }
}

fn parse(list: &Value) -> impl Iterator<Item = Resource> {
    let items = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    items(list, "items")
        .into_iter()
        .flat_map(move |group| {
            let name = text(&group["metadata"]["name"]);
            let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
            for version in items(&group, "versions") {
                for row in items(&version, "resources") {
                    let is_first = seen.insert(text(&row["resource"]));
                    found.push(resource(&name, &text(&version["version"]), is_first, &row));
                }
            }
            found
        })
        .collect::<Vec<_>>()
        .into_iter()
}

fn resource(group: &str, version: &str, preferred: bool, row: &Value) -> Resource {
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    let kind = text(&row["responseKind"]["kind"]);
    let singular = match text(&row["singularResource"]) {
        empty if empty.is_empty() => kind.to_lowercase(),
        singular => singular,
    };
    let subresource = |row: &Value| (text(&row["subresource"]), text(&row["responseKind"]["kind"]));
    Resource {
        group: group.into(),
        version: version.into(),
        kind,
        plural: text(&row["resource"]),
        singular,
        namespaced: row["scope"] == "Namespaced",
        verbs: texts(&row["verbs"]),
        short: texts(&row["shortNames"]),
        categories: texts(&row["categories"]),
        subresources: row["subresources"].as_array().into_iter().flatten().map(subresource).collect(),
        preferred,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Discovery {
        let row = |plural: &str, kind: &str, short: &[&str]| {
            json!({"resource": plural, "singularResource": kind.to_lowercase(), "scope": "Namespaced",
                "responseKind": {"kind": kind}, "verbs": ["get", "list"], "shortNames": short, "categories": ["all"]})
        };
        let group = |name: &str, rows: Value| json!({"metadata": {"name": name}, "versions": [{"version": "v1", "resources": rows}]});
        let core = json!({"items": [group("", json!([row("pods", "Pod", &["po"]), row("events", "Event", &["ev"])]))]});
        let rest = json!({"items": [group("apps", json!([row("deployments", "Deployment", &["deploy"])])),
            group("events.k8s.io", json!([row("events", "Event", &["ev"])]))]});
        Discovery { resources: parse(&core).chain(parse(&rest)).map(Arc::new).collect() }
    }

    #[test]
    fn words_mean_resources() {
        let discovery = sample();
        for (word, expected) in [
            ("po", Some("pods")),
            ("Pod", Some("pods")),
            ("pods.v1.", Some("pods")),
            ("deploy", Some("deployments.apps")),
            ("deployments.apps", Some("deployments.apps")),
            ("deployments.v1.apps", Some("deployments.apps")),
            ("deploy.apps", Some("deployments.apps")),
            ("events", Some("events")),
            ("events.events.k8s.io", Some("events.events.k8s.io")),
            ("nothing", None),
        ] {
            assert_eq!(discovery.find(word).ok().map(|r| r.qualified()).as_deref(), expected, "{word}");
        }
        assert_eq!(discovery.category("all").len(), 4);
    }

    /// As with trust bundles, which the first version of their group has not.
    #[test]
    fn a_resource_is_preferred_in_the_first_version_that_has_it() {
        let version = |name: &str, plurals: &[&str]| {
            let rows: Vec<Value> = plurals.iter().map(|plural| json!({"resource": plural})).collect();
            json!({"version": name, "resources": rows})
        };
        let versions = [version("v1", &["requests"]), version("v1beta1", &["bundles", "requests"])];
        let found: Vec<Resource> =
            parse(&json!({"items": [{"metadata": {"name": "g"}, "versions": versions}]})).collect();
        let preferred = found.iter().filter(|r| r.preferred).map(|r| format!("{} {}", r.plural, r.version));
        assert_eq!(preferred.collect::<Vec<_>>(), ["requests v1", "bundles v1beta1"]);
    }

    #[test]
    fn paths_name_namespace_object_and_subresource() {
        let pod = sample().find("pods").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(pod.path(Some("a"), Some("b"), Some("log")), "/api/v1/namespaces/a/pods/b/log");
        assert_eq!(pod.path(None, None, None), "/api/v1/pods");
    }
}
