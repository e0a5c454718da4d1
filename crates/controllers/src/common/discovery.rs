//! Which resources the API server serves now, those of CustomResourceDefinitions included.

use std::collections::BTreeMap;

use http::Request;
use knarr_client::errors;
use serde::Deserialize;

/// A resource that can be listed and deleted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Served {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// The path of the collection, in one namespace or (with an empty name) in all.
    pub fn path(&self, namespace: &str) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            "" => format!("{root}/{}", self.plural),
            namespace => format!("{root}/namespaces/{namespace}/{}", self.plural),
        }
    }

    pub fn object_path(&self, namespace: &str, name: &str) -> String {
        let namespace = if self.namespaced { namespace } else { "" };
        format!("{}/{name}", self.path(namespace))
    }
}

/// As `apidiscovery.k8s.io/v2` has it; only what is needed here.
#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    freshness: String,
}

impl Version {
    /// Another server answers it and says nothing now: its resources are what it said last, if ever it said anything.
    fn is_stale(&self) -> bool {
        self.freshness == "Stale"
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    #[serde(default)]
    response_kind: Kind,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Kind {
    #[serde(default)]
    kind: String,
}

/// What is served for certain, and what nobody knows about now.
#[derive(Debug, Default)]
pub struct Discovered {
    pub served: Vec<Served>,
    /// Group versions (`wardle.example.com/v1`) of other servers that say nothing of themselves.
    pub stale: Vec<String>,
}

/// Each resource once per group, in its preferred version. Of servers that say nothing now, what they said last.
pub async fn all(client: &kube::Client) -> Result<Vec<Served>, kube::Error> {
    Ok(each_once(lists(client).await?))
}

/// As [`all`], for whoever must not take what a server once said for what it says.
pub async fn certain(client: &kube::Client) -> Result<Discovered, kube::Error> {
    let mut lists = lists(client).await?;
    let mut stale = Vec::new();
    for group in lists.iter_mut().flat_map(|list| &mut list.items) {
        let name = &group.metadata.name;
        stale.extend(group.versions.iter().filter(|one| one.is_stale()).map(|one| format!("{name}/{}", one.version)));
        group.versions.retain(|version| !version.is_stale());
    }
    stale.sort_unstable();
    Ok(Discovered { served: each_once(lists), stale })
}

async fn lists(client: &kube::Client) -> Result<[GroupList; 2], kube::Error> {
    Ok([groups(client, "/api").await?, groups(client, "/apis").await?])
}

fn each_once(lists: [GroupList; 2]) -> Vec<Served> {
    let mut served = BTreeMap::new();
    for group in lists.into_iter().flat_map(|list| list.items) {
        for version in group.versions {
            for resource in version.resources {
                // Versions come with the preferred one first.
                let key = (group.metadata.name.clone(), resource.resource.clone());
                served.entry(key).or_insert_with(|| Served {
                    group: group.metadata.name.clone(),
                    version: version.version.clone(),
                    kind: resource.response_kind.kind,
                    plural: resource.resource,
                    namespaced: resource.scope == "Namespaced",
                    verbs: resource.verbs,
                });
            }
        }
    }
    served.into_values().collect()
}

async fn groups(client: &kube::Client, root: &str) -> Result<GroupList, kube::Error> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let request = Request::get(root).header(http::header::ACCEPT, accept).body(Vec::new());
    client.request(request.map_err(kube::Error::HttpError)?).await
}

/// A request with a JSON body, or none; answers the body's text, `None` on 404.
pub async fn send(
    client: &kube::Client,
    method: http::Method,
    path: &str,
    content_type: &str,
    body: Option<serde_json::Value>,
) -> Result<Option<String>, kube::Error> {
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content_type);
    let request =
        request.header(http::header::ACCEPT, "application/json").body(bytes).map_err(kube::Error::HttpError)?;
    errors::optional(client.request_text(request).await)
}
