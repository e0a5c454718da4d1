//! Who owns whom. Pure: it takes what was seen and answers what is to be looked into.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_client::meta;

use crate::common::discovery::Served;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";
/// Owners known to be gone, so that their many dependents do not each ask the server.
const MAX_ABSENT: usize = 500;

/// An object's uid.
pub type Uid = String;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// May this object have to go?
    Judge(Uid),
    /// Its dependents are to be set free, then it may go.
    Orphan(Uid),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Judge(uid) => write!(f, "judge {uid}"),
            Work::Orphan(uid) => write!(f, "orphan the dependents of {uid}"),
        }
    }
}

pub struct Seen {
    pub resource: Arc<Served>,
    pub meta: ObjectMeta,
}

#[derive(Clone, Debug)]
pub struct Vertex {
    pub identity: Identity,
    pub owners: Vec<OwnerReference>,
    pub dependents: HashSet<Uid>,
    /// Being deleted in the foreground: it waits for its dependents.
    pub waits_for_dependents: bool,
    /// Being deleted, and its dependents are to be set free before.
    pub sets_free: bool,
    pub is_going: bool,
    /// Known only because another names it as an owner.
    pub is_virtual: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Default)]
pub struct Graph {
    vertices: HashMap<Uid, Vertex>,
    absent: HashSet<Uid>,
    absent_order: VecDeque<Uid>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Vertex> {
        self.vertices.get(uid)
    }

    /// An object is there, new or changed.
    pub fn seen(&mut self, Seen { resource, meta }: Seen) -> Vec<Work> {
        let uid = meta::uid(&meta).to_owned();
        let has = |finalizer: &str| meta::has_finalizer(&meta, finalizer);
        let is_going = meta.deletion_timestamp.is_some();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let mut works = Vec::new();
        let (before, mut dependents) = match self.vertices.remove(&uid) {
            Some(mut vertex) => {
                let dependents = std::mem::take(&mut vertex.dependents);
                (Some(vertex), dependents)
            }
            None => (None, HashSet::new()),
        };
        let waits = is_going && has(FOREGROUND);
        if waits && !before.as_ref().is_some_and(|vertex| vertex.waits_for_dependents) {
            works.extend(dependents.iter().cloned().map(Work::Judge));
            works.push(Work::Judge(uid.clone()));
        }
        // A second deletion may ask for it when the first did not.
        let sets_free = is_going && has(ORPHAN);
        if sets_free && !before.as_ref().is_some_and(|vertex| vertex.sets_free) {
            works.push(Work::Orphan(uid.clone()));
        }
        let old_owners = before.map(|vertex| vertex.owners).unwrap_or_default();
        works.extend(self.link(&uid, &meta, &old_owners, &owners));
        dependents.remove(&uid);
        let identity = Identity {
            api_version: super::monitor::api_version(&resource),
            kind: resource.kind.clone(),
            namespace: meta::namespace(&meta).to_owned(),
            name: meta::name(&meta).to_owned(),
        };
        self.absent.remove(&uid);
        let waits_for_dependents = waits;
        let vertex =
            Vertex { identity, owners, dependents, waits_for_dependents, sets_free, is_going, is_virtual: false };
        self.vertices.insert(uid, vertex);
        works
    }

    /// Brings the owners' side up to date.
    fn link(&mut self, uid: &str, meta: &ObjectMeta, before: &[OwnerReference], after: &[OwnerReference]) -> Vec<Work> {
        let mut works = Vec::new();
        for gone in before.iter().filter(|old| !after.iter().any(|new| new.uid == old.uid)) {
            if let Some(owner) = self.vertices.get_mut(&gone.uid) {
                owner.dependents.remove(uid);
                works.extend(owner.waits_for_dependents.then(|| Work::Judge(gone.uid.clone())));
            }
        }
        for owner in after.iter().filter(|owner| owner.uid != uid) {
            let is_new = !before.iter().any(|old| old.uid == owner.uid);
            let vertex = self.vertices.entry(owner.uid.clone()).or_insert_with(|| Vertex {
                identity: Identity {
                    api_version: owner.api_version.clone(),
                    kind: owner.kind.clone(),
                    namespace: meta::namespace(meta).to_owned(),
                    name: owner.name.clone(),
                },
                owners: Vec::new(),
                dependents: HashSet::new(),
                waits_for_dependents: false,
                sets_free: false,
                is_going: false,
                is_virtual: true,
            });
            vertex.dependents.insert(uid.to_owned());
            let blocks = |list: &[OwnerReference]| {
                list.iter().any(|one| one.uid == owner.uid && one.block_owner_deletion == Some(true))
            };
            let unblocked = !is_new && blocks(before) && !blocks(after);
            if vertex.is_virtual && is_new {
                // Nobody has seen this owner: is it there at all? Its dependent is judged once that is known.
                works.push(Work::Judge(owner.uid.clone()));
            } else if vertex.waits_for_dependents && is_new {
                works.push(Work::Judge(uid.to_owned()));
            }
            if vertex.waits_for_dependents && unblocked {
                works.push(Work::Judge(owner.uid.clone()));
            }
        }
        works
    }

    /// An object is gone: the watch, or the server when asked, says so.
    pub fn removed(&mut self, uid: &str) -> Vec<Work> {
        self.note_absent(uid);
        let Some(vertex) = self.vertices.remove(uid) else { return Vec::new() };
        let mut works: Vec<_> = vertex.dependents.iter().cloned().map(Work::Judge).collect();
        for owner in &vertex.owners {
            if let Some(above) = self.vertices.get_mut(&owner.uid) {
                above.dependents.remove(uid);
                works.extend(above.waits_for_dependents.then(|| Work::Judge(owner.uid.clone())));
                if above.is_virtual && above.dependents.is_empty() {
                    self.vertices.remove(&owner.uid);
                }
            }
        }
        works
    }

    /// The server does not serve this resource any more.
    pub fn drop_resource(&mut self, served: &Served) -> Vec<Work> {
        let api_version = super::monitor::api_version(served);
        let of_resource = |vertex: &Vertex| {
            !vertex.is_virtual && vertex.identity.kind == served.kind && vertex.identity.api_version == api_version
        };
        let gone: Vec<_> = self.vertices.iter().filter(|(_, v)| of_resource(v)).map(|(uid, _)| uid.clone()).collect();
        gone.iter().flat_map(|uid| self.removed(uid)).collect()
    }

    pub fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    pub fn note_absent(&mut self, uid: &str) {
        if self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
        }
        while self.absent_order.len() > MAX_ABSENT {
            if let Some(oldest) = self.absent_order.pop_front() {
                self.absent.remove(&oldest);
            }
        }
    }

    /// The dependents that the object's foreground deletion waits for.
    pub fn blocking_dependents(&self, uid: &str) -> Vec<Uid> {
        let Some(vertex) = self.vertices.get(uid) else { return Vec::new() };
        let blocks = |dependent: &&Uid| {
            let owners = self.vertices.get(*dependent).map(|dependent| dependent.owners.as_slice()).unwrap_or_default();
            owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        vertex.dependents.iter().filter(blocks).cloned().collect()
    }
}
