//! Which claims are prepared here, for which pods, and what containers get with them; on disk before a driver is asked
//! for anything, so that nothing it did is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::wire::{Claim, Device};
use crate::checkpoint;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub namespace: String,
    pub name: String,
    /// What each driver made of it; nothing while it was asked, and did not answer yet.
    pub drivers: BTreeMap<String, Option<Vec<Device>>>,
    /// The uids of the pods that use it.
    pub pods: BTreeSet<String>,
}

impl Entry {
    pub fn is_prepared(&self) -> bool {
        self.drivers.values().all(Option::is_some)
    }

    pub fn claim(&self, uid: &str) -> Claim {
        Claim { namespace: self.namespace.clone(), uid: uid.to_owned(), name: self.name.clone() }
    }

    /// The names of devices for a container, of all requests of the claim or of one.
    pub fn devices<'a>(&'a self, request: Option<&'a str>) -> impl Iterator<Item = &'a String> {
        // `request/subrequest` stands for the request.
        let is_of = move |name: &String| request.is_none_or(|wanted| name.split('/').next() == Some(wanted));
        let devices = self.drivers.values().flatten().flatten();
        let wanted = devices.filter(move |device| {
            let names = &device.request_names;
            names.is_empty() || names.iter().any(is_of)
        });
        wanted.flat_map(|device| &device.cdi_device_ids)
    }
}

/// By the claims' uids.
pub type Entries = BTreeMap<String, Entry>;

pub struct Ledger {
    path: PathBuf,
    pub entries: Entries,
}

impl Ledger {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let entries = checkpoint::read(&path)?.unwrap_or_default();
        Ok(Self { path, entries })
    }

    /// What could not be written did not happen.
    pub fn change<T>(&mut self, apply: impl FnOnce(&mut Entries) -> T) -> io::Result<T> {
        let mut entries = self.entries.clone();
        let result = apply(&mut entries);
        if entries != self.entries {
            checkpoint::write(&self.path, &entries)?;
            self.entries = entries;
        }
        Ok(result)
    }
}
