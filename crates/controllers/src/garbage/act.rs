//! Looks into one object: asks the server, and deletes, frees or lets go.

use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_client::{Outcome, errors, meta};
use serde::Deserialize;
use serde_json::json;

use super::{
    Collector,
    graph::{FOREGROUND, Identity, ORPHAN, Vertex, Work},
};
use crate::{
    Error,
    common::{
        discovery::{self, Served},
        some_or_null,
    },
};

const MERGE_PATCH: &str = "application/merge-patch+json";

/// How an owner stands, as the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Solid,
    Gone,
    /// Being deleted in the foreground.
    Waiting,
}

/// What becomes of an object with such owners. Pure.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Stays,
    /// It stays, but without these owners.
    Loses(Vec<String>),
    /// With dependents of its own it goes in the foreground too, so that they go before it.
    GoesInForeground,
    Goes,
}

pub(super) fn verdict(owners: &[(OwnerReference, Standing)], has_dependents: bool) -> Verdict {
    let any = |standing: Standing| owners.iter().any(|(_, other)| *other == standing);
    let lost =
        || owners.iter().filter(|(_, s)| *s != Standing::Solid).map(|(owner, _)| owner.uid.clone()).collect::<Vec<_>>();
    if owners.is_empty() {
        Verdict::Stays
    } else if any(Standing::Solid) {
        let lost = lost();
        if lost.is_empty() { Verdict::Stays } else { Verdict::Loses(lost) }
    } else if any(Standing::Waiting) && has_dependents {
        Verdict::GoesInForeground
    } else {
        Verdict::Goes
    }
}

/// A cluster-scoped object cannot have an owner in a namespace: which one is not said. Nothing is deleted for it.
fn cannot_be(owner: &Served, dependent_namespace: &str) -> bool {
    owner.namespaced && dependent_namespace.is_empty()
}

impl Collector {
    pub(super) async fn judge(&self, uid: &str) -> Result<Outcome, Error> {
        let Some(vertex) = self.graph().get(uid).cloned() else { return Ok(Outcome::Done) };
        if vertex.is_going() && !vertex.waits_for_dependents() {
            return Ok(Outcome::Done);
        }
        if !vertex.is_virtual() && vertex.owners().is_empty() && !vertex.waits_for_dependents() {
            return Ok(Outcome::Done);
        }
        let identity = vertex.identity();
        let Some(served) = self.served(&identity.api_version, &identity.kind) else {
            return Ok(self.without_resource(uid, &identity));
        };
        if cannot_be(&served, &identity.namespace) {
            return Ok(Outcome::Done);
        }
        let Some(live) = self.live(&served, &identity, uid).await? else {
            let works = self.graph().removed(uid);
            self.enqueue(works);
            return Ok(Outcome::Done);
        };
        if vertex.is_virtual() {
            // It is there, its watch will show it; until then its dependents have an owner.
            return Ok(Outcome::Done);
        }
        if vertex.waits_for_dependents() {
            return self.wait_for_dependents(uid, &served, &live).await;
        }
        let mut owners = Vec::new();
        for owner in live.owner_references.iter().flatten() {
            owners.push((owner.clone(), self.standing(owner, meta::namespace(&live)).await?));
        }
        match verdict(&owners, !vertex.dependents.is_empty()) {
            Verdict::Stays => {}
            Verdict::Loses(lost) => self.drop_owners(&served, &live, |owner| lost.contains(&owner.uid)).await?,
            Verdict::GoesInForeground => self.delete(&served, &live, "Foreground").await?,
            Verdict::Goes => {
                // Who set a finalizer for it has asked for that way of going.
                let policy = if meta::has_finalizer(&live, ORPHAN) {
                    "Orphan"
                } else if meta::has_finalizer(&live, FOREGROUND) {
                    "Foreground"
                } else {
                    "Background"
                };
                self.delete(&served, &live, policy).await?;
            }
        }
        Ok(Outcome::Done)
    }

    /// An owner of a kind the server does not know. It may come (a CustomResourceDefinition that is being made), so
    /// nothing is deleted for it.
    fn without_resource(&self, uid: &str, identity: &Identity) -> Outcome {
        tracing::debug!(uid, kind = identity.kind, "an owner is of a kind that is not served");
        Outcome::Done
    }

    async fn wait_for_dependents(&self, uid: &str, served: &Served, live: &ObjectMeta) -> Result<Outcome, Error> {
        let blocking = self.graph().blocking_dependents(uid);
        if blocking.is_empty() {
            self.remove_finalizer(served, live, FOREGROUND).await?;
            return Ok(Outcome::Done);
        }
        let circle = self.graph().circle(uid);
        if !circle.is_empty() {
            // Once its owners wait for it no more, one of them can go, and then the next, round to this one.
            self.unblock_owners(served, live, &circle).await?;
            return Ok(Outcome::Done);
        }
        let works = {
            let graph = self.graph();
            let idle = |uid: &String| graph.get(uid).is_some_and(|vertex| !vertex.waits_for_dependents());
            blocking.into_iter().filter(idle).map(Work::Judge).collect()
        };
        self.enqueue(works);
        Ok(Outcome::Done)
    }

    /// Frees the dependents, then lets the owner go.
    pub(super) async fn orphan(&self, uid: &str) -> Result<Outcome, Error> {
        let Some(vertex) = self.graph().get(uid).cloned() else { return Ok(Outcome::Done) };
        for dependent in &vertex.dependents {
            let Some(identity) = self.graph().get(dependent).map(Vertex::identity) else { continue };
            let Some(served) = self.served(&identity.api_version, &identity.kind) else { continue };
            if let Some(live) = self.live(&served, &identity, dependent).await? {
                self.drop_owners(&served, &live, |owner| owner.uid == uid).await?;
            }
        }
        let identity = vertex.identity();
        let Some(served) = self.served(&identity.api_version, &identity.kind) else { return Ok(Outcome::Done) };
        if let Some(live) = self.live(&served, &identity, uid).await? {
            self.remove_finalizer(&served, &live, ORPHAN).await?;
        }
        Ok(Outcome::Done)
    }

    async fn standing(&self, owner: &OwnerReference, namespace: &str) -> Result<Standing, Error> {
        if self.graph().is_absent(&owner.uid) {
            return Ok(Standing::Gone);
        }
        // A kind that is not served: nothing can be said, so nothing is deleted.
        let Some(served) = self.served(&owner.api_version, &owner.kind) else { return Ok(Standing::Solid) };
        if cannot_be(&served, namespace) {
            return Ok(Standing::Solid);
        }
        let identity = Identity {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: namespace.to_owned(),
            name: owner.name.clone(),
        };
        Ok(match self.live(&served, &identity, &owner.uid).await? {
            None => {
                self.graph().note_absent(&owner.uid);
                Standing::Gone
            }
            Some(live) if live.deletion_timestamp.is_some() && meta::has_finalizer(&live, FOREGROUND) => {
                Standing::Waiting
            }
            Some(_) => Standing::Solid,
        })
    }

    /// The object as the server has it now; `None` where it is gone, or another has its name.
    async fn live(&self, served: &Served, identity: &Identity, uid: &str) -> Result<Option<ObjectMeta>, Error> {
        #[derive(Deserialize)]
        struct Partial {
            metadata: ObjectMeta,
        }
        let path = served.object_path(&identity.namespace, &identity.name);
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        let request = http::Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new());
        let request = request.map_err(|error| Error::Malformed { field: "name", message: error.to_string() })?;
        let found = errors::optional(self.context.client.request::<Partial>(request).await);
        let found = found.map_err(Error::api("reading an object's metadata"))?;
        Ok(found.map(|partial| partial.metadata).filter(|meta| meta::uid(meta) == uid))
    }

    async fn delete(&self, served: &Served, live: &ObjectMeta, policy: &str) -> Result<(), Error> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
            "preconditions": {"uid": live.uid, "resourceVersion": live.resource_version},
        });
        self.send(Method::DELETE, served, live, "application/json", options, "deleting an object without owners").await
    }

    async fn drop_owners(
        &self,
        served: &Served,
        live: &ObjectMeta,
        goes: impl Fn(&OwnerReference) -> bool,
    ) -> Result<(), Error> {
        let mut owners = live.owner_references.clone().unwrap_or_default();
        owners.retain(|owner| !goes(owner));
        self.set_owners(served, live, owners, "freeing an object from its owners").await
    }

    async fn unblock_owners(&self, served: &Served, live: &ObjectMeta, uids: &[String]) -> Result<(), Error> {
        let mut owners = live.owner_references.clone().unwrap_or_default();
        for owner in owners.iter_mut().filter(|owner| uids.contains(&owner.uid)) {
            owner.block_owner_deletion = Some(false);
        }
        self.set_owners(served, live, owners, "breaking a circle of owners").await
    }

    async fn set_owners(
        &self,
        served: &Served,
        live: &ObjectMeta,
        owners: Vec<OwnerReference>,
        what: &'static str,
    ) -> Result<(), Error> {
        if owners.as_slice() == live.owner_references.as_deref().unwrap_or_default() {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": live.uid, "resourceVersion": live.resource_version, "ownerReferences": some_or_null(owners),
        }});
        self.send(Method::PATCH, served, live, MERGE_PATCH, patch, what).await
    }

    async fn remove_finalizer(&self, served: &Served, live: &ObjectMeta, finalizer: &str) -> Result<(), Error> {
        if !meta::has_finalizer(live, finalizer) {
            return Ok(());
        }
        let left: Vec<_> = live.finalizers.iter().flatten().filter(|other| *other != finalizer).collect();
        let patch = json!({"metadata": {
            "uid": live.uid, "resourceVersion": live.resource_version, "finalizers": some_or_null(left),
        }});
        self.send(Method::PATCH, served, live, MERGE_PATCH, patch, "removing a finalizer").await
    }

    async fn send(
        &self,
        method: Method,
        served: &Served,
        live: &ObjectMeta,
        content_type: &str,
        body: serde_json::Value,
        what: &'static str,
    ) -> Result<(), Error> {
        let path = served.object_path(meta::namespace(live), meta::name(live));
        let sent = discovery::send(&self.context.client, method, &path, content_type, Some(body)).await;
        sent.map(drop).map_err(Error::api(what))
    }
}
