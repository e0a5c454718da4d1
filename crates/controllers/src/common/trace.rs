//! What is kept of each object in the watches: identity, owners, finalizers, deletion. Labels and annotations, most
//! of the metadata's size, are dropped while reading.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};

pub struct Trace(ObjectMeta);

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kept = Whole::deserialize(deserializer)?.metadata;
        Ok(Self(ObjectMeta {
            name: kept.name,
            namespace: kept.namespace,
            uid: kept.uid,
            resource_version: kept.resource_version,
            owner_references: kept.owner_references,
            finalizers: kept.finalizers,
            deletion_timestamp: kept.deletion_timestamp,
            ..ObjectMeta::default()
        }))
    }
}

#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    metadata: Kept,
}

/// Of every change of every object this is read, so what is not kept is passed over.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<Time>,
}

impl knarr_client::informer::Object for Trace {
    const LEAN: bool = true;
}

/// Only the metadata is asked for; what kind it is, each watch knows by its path.
impl kube::Resource for Trace {
    type DynamicType = ();
    type Scope = kube::core::DynamicResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "PartialObjectMetadata".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "meta.k8s.io".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "partialobjectmetadatas".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.0
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}
