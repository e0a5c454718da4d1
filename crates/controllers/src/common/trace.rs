//! What is kept of each object in the watches: identity, owners, finalizers, deletion. Labels and annotations, most
//! of the metadata's size, are dropped while reading.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

pub struct Trace(ObjectMeta);

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default)]
            metadata: ObjectMeta,
        }
        let meta = Whole::deserialize(deserializer)?.metadata;
        Ok(Self(ObjectMeta {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            owner_references: meta.owner_references,
            finalizers: meta.finalizers,
            deletion_timestamp: meta.deletion_timestamp,
            ..ObjectMeta::default()
        }))
    }
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
