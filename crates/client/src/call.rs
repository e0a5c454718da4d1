//! Single calls for any kind, namespaced or not: the object itself says where it lives, which `kube::Api` wants to
//! know from its type.

use kube::{
    Resource,
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions},
    core::Request,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{errors, meta};

/// A kind that is known at compile time.
pub trait Kind: Resource<DynamicType = ()> + DeserializeOwned + Serialize {}
impl<K: Resource<DynamicType = ()> + DeserializeOwned + Serialize> Kind for K {}

/// As new as the last acknowledged write; `None` where there is no such object.
pub async fn get<K: Kind>(client: &kube::Client, namespace: &str, name: &str) -> Result<Option<K>, kube::Error> {
    let request = requests::<K>(namespace).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    errors::optional(client.request(request).await)
}

pub async fn create<K: Kind>(client: &kube::Client, object: &K) -> Result<K, kube::Error> {
    client.request(creation(object)?).await
}

/// Answers with the name alone: whoever makes many objects leaves the reading of the rest to their watch.
pub async fn create_named<K: Kind>(client: &kube::Client, object: &K) -> Result<String, kube::Error> {
    create_again(client, creation(object)?).await
}

/// The request that creates an object, written down: of what the server names, the same makes as many as it is sent.
pub type Creation = http::Request<Vec<u8>>;

pub fn creation<K: Kind>(object: &K) -> Result<Creation, kube::Error> {
    let requests = requests::<K>(meta::namespace(object.meta()));
    requests.create(&PostParams::default(), json(object)?).map_err(kube::Error::BuildRequest)
}

/// Sends what was written down, and answers with the name alone.
pub async fn create_again(client: &kube::Client, creation: Creation) -> Result<String, kube::Error> {
    #[derive(Deserialize)]
    struct Made {
        metadata: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let made: Made = client.request(creation).await?;
    Ok(made.metadata.name)
}

/// Its resourceVersion, where it has one, makes a stale write fail.
pub async fn replace<K: Kind>(client: &kube::Client, object: &K) -> Result<K, kube::Error> {
    let (requests, name) = place(object);
    let request = requests.replace(name, &PostParams::default(), json(object)?).map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}

/// Replaces the object's status and nothing else.
pub async fn replace_status<K: Kind>(client: &kube::Client, object: &K) -> Result<K, kube::Error> {
    replace_subresource(client, object, "status").await
}

pub async fn replace_subresource<K: Kind>(
    client: &kube::Client,
    object: &K,
    subresource: &str,
) -> Result<K, kube::Error> {
    let (requests, name) = place(object);
    let request = requests.replace_subresource(subresource, name, &PostParams::default(), json(object)?);
    client.request(request.map_err(kube::Error::BuildRequest)?).await
}

/// A JSON merge patch (RFC 7396) of the object.
pub async fn merge<K: Kind>(client: &kube::Client, object: &K, patch: serde_json::Value) -> Result<K, kube::Error> {
    let (requests, name) = place(object);
    let request = requests.patch(name, &PatchParams::default(), &Patch::Merge(patch));
    client.request(request.map_err(kube::Error::BuildRequest)?).await
}

/// A JSON merge patch of one of the object's subresources.
pub async fn merge_subresource<K: Kind>(
    client: &kube::Client,
    object: &K,
    subresource: &str,
    patch: serde_json::Value,
) -> Result<K, kube::Error> {
    let (requests, name) = place(object);
    let request = requests.patch_subresource(subresource, name, &PatchParams::default(), &Patch::Merge(patch));
    client.request(request.map_err(kube::Error::BuildRequest)?).await
}

/// A strategic merge patch of the status: of lists with keys it touches only the entries that it names.
pub async fn strategic_status<K: Kind>(
    client: &kube::Client,
    object: &K,
    patch: serde_json::Value,
) -> Result<K, kube::Error> {
    let (requests, name) = place(object);
    let request = requests.patch_subresource("status", name, &PatchParams::default(), &Patch::Strategic(patch));
    client.request(request.map_err(kube::Error::BuildRequest)?).await
}

/// Deletes exactly this object, not a successor of its name. Answers false where it was gone already.
pub async fn delete<K: Kind>(client: &kube::Client, object: &K, params: DeleteParams) -> Result<bool, kube::Error> {
    let preconditions = Some(Preconditions { uid: object.meta().uid.clone(), resource_version: None });
    let (requests, name) = place(object);
    let request = requests.delete(name, &DeleteParams { preconditions, ..params });
    let deleted = client.request_text(request.map_err(kube::Error::BuildRequest)?).await;
    Ok(errors::optional(deleted)?.is_some())
}

fn requests<K: Kind>(namespace: &str) -> Request {
    Request::new(K::url_path(&(), Some(namespace).filter(|namespace| !namespace.is_empty())))
}

fn place<K: Kind>(object: &K) -> (Request, &str) {
    (requests::<K>(meta::namespace(object.meta())), meta::name(object.meta()))
}

fn json<K: Serialize>(object: &K) -> Result<Vec<u8>, kube::Error> {
    serde_json::to_vec(object).map_err(kube::Error::SerdeError)
}
