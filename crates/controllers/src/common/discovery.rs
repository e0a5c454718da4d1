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

/// Each resource once per group, in its preferred version.
pub async fn all(client: &kube::Client) -> Result<Vec<Served>, kube::Error> {
    let mut served = BTreeMap::new();
    for root in ["/api", "/apis"] {
        let list = groups(client, root).await?;
        for group in list.items {
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
    }
    Ok(served.into_values().collect())
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
