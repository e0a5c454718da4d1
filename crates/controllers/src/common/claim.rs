//! Which objects belong to a controller: those it owns and still selects; orphans it selects are adopted, owned
//! ones it no longer selects are let go. (Upstream: ControllerRefManager.)

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_api::selector::LabelSelector;
use knarr_client::{
    Informer,
    call::{self, Kind},
    errors,
    informer::{CONTROLLER_INDEX, Object, orphans_key},
    meta,
};

use super::{selector, some_or_null};
use crate::Error;

/// What is to be done with one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// Pure: what `owner` makes of an object, given whether its selector takes it.
pub fn decide(owner: &ObjectMeta, object: &ObjectMeta, selected: bool) -> Claim {
    let owner_goes = owner.deletion_timestamp.is_some();
    match meta::controller_of(object) {
        Some(controller) if controller.uid != meta::uid(owner) => Claim::Ignore,
        Some(_) if selected => Claim::Keep,
        Some(_) if owner_goes => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_goes || !selected || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// All that may turn out to be the owner's: what it controls, and what nobody controls in its namespace. The informer
/// is one that is indexed by controller.
pub fn candidates<K: Object<DynamicType = ()>>(all: &Informer<K>, owner: &ObjectMeta) -> Vec<Arc<K>> {
    let owned = all.by_index(CONTROLLER_INDEX, meta::uid(owner));
    let orphans = all.by_index(CONTROLLER_INDEX, &orphans_key(meta::namespace(owner)));
    owned.into_iter().chain(orphans).collect()
}

/// The candidates that belong to `owner`, after adopting and releasing. An error where there are some to adopt and the
/// owner is being deleted, as its cache is yet to show.
pub async fn claim<O: Kind, K: Kind>(
    client: &kube::Client,
    owner: &O,
    wanted: &LabelSelector,
    candidates: impl IntoIterator<Item = Arc<K>>,
) -> Result<Vec<Arc<K>>, Error> {
    let mut claimed = Vec::new();
    let mut may_adopt = false;
    for object in candidates {
        match decide(owner.meta(), object.meta(), selector::matches(wanted, object.meta())) {
            Claim::Keep => claimed.push(object),
            Claim::Ignore => {}
            Claim::Release => set_owners(client, &*object, without(object.meta(), meta::uid(owner.meta()))).await?,
            Claim::Adopt => {
                // The cache may show an owner that is already gone, or a successor of the same name. What it has left
                // behind is not missing, so nothing may be made in place of it: this goes no further.
                if !may_adopt && !is_alive(client, owner).await? {
                    return Err(Error::NotYet("the owner was deleted, and its cache does not show it yet"));
                }
                may_adopt = true;
                let mut owners = object.meta().owner_references.clone().unwrap_or_default();
                owners.push(meta::controller_reference(owner));
                set_owners(client, &*object, owners).await?;
                claimed.push(object);
            }
        }
    }
    Ok(claimed)
}

async fn is_alive<O: Kind>(client: &kube::Client, owner: &O) -> Result<bool, Error> {
    let live = call::get::<O>(client, meta::namespace(owner.meta()), meta::name(owner.meta())).await;
    let live = live.map_err(Error::api("reading the owner anew"))?;
    Ok(live.is_some_and(|live| live.meta().uid == owner.meta().uid && live.meta().deletion_timestamp.is_none()))
}

fn without(object: &ObjectMeta, owner_uid: &str) -> Vec<OwnerReference> {
    object.owner_references.iter().flatten().filter(|owner| owner.uid != owner_uid).cloned().collect()
}

/// The resourceVersion makes the patch fail where another writer came first.
async fn set_owners<K: Kind>(client: &kube::Client, object: &K, owners: Vec<OwnerReference>) -> Result<(), Error> {
    let patch = serde_json::json!({"metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "ownerReferences": some_or_null(owners),
    }});
    let patched = errors::optional(call::merge(client, object, patch).await);
    patched.map(drop).map_err(Error::api("adopting or releasing an object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table() {
        let meta = |value| serde_json::from_value::<ObjectMeta>(value).unwrap();
        let owned_by = |uid: &str| json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}]});
        let time = "2024-01-01T00:00:00Z";
        let (alive, going) = (json!({"uid": "me"}), json!({"uid": "me", "deletionTimestamp": time}));
        for (owner, object, selected, expected) in [
            (&alive, owned_by("me"), true, Claim::Keep),
            (&alive, owned_by("me"), false, Claim::Release),
            (&alive, owned_by("other"), true, Claim::Ignore),
            (&alive, json!({}), true, Claim::Adopt),
            (&alive, json!({}), false, Claim::Ignore),
            (&alive, json!({"deletionTimestamp": time}), true, Claim::Ignore),
            (&going, json!({}), true, Claim::Ignore),
            (&going, owned_by("me"), true, Claim::Keep),
            (&going, owned_by("me"), false, Claim::Ignore),
        ] {
            assert_eq!(
                decide(&meta(owner.clone()), &meta(object.clone()), selected),
                expected,
                "{owner} {object} {selected}"
            );
        }
    }
}
