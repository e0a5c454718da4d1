//! Which container has which devices.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::protocol::ContainerAllocateResponse;

/// What the disk has of it is all that an agent needs that is started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The resources that plugins have registered: there are none of them until they do so again.
    pub resources: BTreeSet<String>,
    /// By the pod's UID and the container's name.
    pods: BTreeMap<String, BTreeMap<String, Grants>>,
}

/// What one container has, by resource.
pub type Grants = BTreeMap<String, Grant>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub devices: BTreeSet<String>,
    #[serde(serialize_with = "encode", deserialize_with = "decode")]
    pub response: ContainerAllocateResponse,
}

impl Ledger {
    pub fn of(&self, uid: &str, container: &str) -> Option<&Grants> {
        self.pods.get(uid)?.get(container)
    }

    pub fn grant(&mut self, uid: &str, container: &str, resource: &str, grant: Grant) {
        let container = self.pods.entry(uid.to_owned()).or_default().entry(container.to_owned()).or_default();
        container.insert(resource.to_owned(), grant);
    }

    /// The devices that somebody has.
    pub fn in_use(&self, resource: &str) -> BTreeSet<String> {
        let grants = self.pods.values().flat_map(BTreeMap::values).filter_map(|grants| grants.get(resource));
        grants.flat_map(|grant| grant.devices.iter().cloned()).collect()
    }

    pub fn holders(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    /// Takes back what pods have that are not to keep it; true where there was something.
    pub fn retain(&mut self, keeps: impl Fn(&str) -> bool) -> bool {
        let before = self.pods.len();
        self.pods.retain(|uid, _| keeps(uid));
        self.pods.len() != before
    }
}

fn encode<S: Serializer>(response: &ContainerAllocateResponse, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(response.encode_to_vec()))
}

fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ContainerAllocateResponse, D::Error> {
    let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
    ContainerAllocateResponse::decode(bytes.as_slice()).map_err(D::Error::custom)
}
