//! Who owns whom. Pure: it takes what was seen and answers what is to be looked into.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_client::{informer::Object, meta};

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

/// What a watch has shown. The graph shares it with the watch, so there is one copy of it.
#[derive(Clone)]
pub struct Seen {
    pub resource: Arc<Served>,
    pub object: Arc<dyn Shown>,
}

/// An object of a watch, whatever the watch keeps of it.
pub trait Shown: Send + Sync {
    fn metadata(&self) -> &ObjectMeta;
}

impl<K: Object> Shown for K {
    fn metadata(&self) -> &ObjectMeta {
        self.meta()
    }
}

#[derive(Clone)]
pub struct Vertex {
    subject: Subject,
    pub dependents: HashSet<Uid>,
}

#[derive(Clone)]
enum Subject {
    Seen(Seen),
    /// Known only because another names it as an owner.
    Named(Box<Identity>),
}

impl Vertex {
    pub fn is_virtual(&self) -> bool {
        matches!(self.subject, Subject::Named(_))
    }

    pub fn identity(&self) -> Identity {
        match &self.subject {
            Subject::Named(identity) => (**identity).clone(),
            Subject::Seen(seen) => Identity {
                api_version: super::monitor::api_version(&seen.resource),
                kind: seen.resource.kind.clone(),
                namespace: meta::namespace(seen.object.metadata()).to_owned(),
                name: meta::name(seen.object.metadata()).to_owned(),
            },
        }
    }

    pub fn owners(&self) -> &[OwnerReference] {
        let owners = self.metadata().and_then(|meta| meta.owner_references.as_deref());
        owners.unwrap_or_default()
    }

    pub fn is_going(&self) -> bool {
        self.metadata().is_some_and(|meta| meta.deletion_timestamp.is_some())
    }

    /// Being deleted in the foreground: it waits for its dependents.
    pub fn waits_for_dependents(&self) -> bool {
        self.goes_with(FOREGROUND)
    }

    /// Being deleted, and its dependents are to be set free before.
    pub fn sets_free(&self) -> bool {
        self.goes_with(ORPHAN)
    }

    fn goes_with(&self, finalizer: &str) -> bool {
        self.is_going() && self.metadata().is_some_and(|meta| meta::has_finalizer(meta, finalizer))
    }

    fn metadata(&self) -> Option<&ObjectMeta> {
        match &self.subject {
            Subject::Seen(seen) => Some(seen.object.metadata()),
            Subject::Named(_) => None,
        }
    }
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
    pub fn seen(&mut self, seen: Seen) -> Vec<Work> {
        let object = seen.object.clone();
        let uid = meta::uid(object.metadata()).to_owned();
        let mut before = self.vertices.remove(&uid);
        let mut dependents = before.as_mut().map(|vertex| std::mem::take(&mut vertex.dependents)).unwrap_or_default();
        dependents.remove(&uid);
        let vertex = Vertex { subject: Subject::Seen(seen), dependents };
        let mut works = Vec::new();
        if vertex.waits_for_dependents() && !before.as_ref().is_some_and(Vertex::waits_for_dependents) {
            works.extend(vertex.dependents.iter().cloned().map(Work::Judge));
            works.push(Work::Judge(uid.clone()));
        }
        // A second deletion may ask for it when the first did not.
        if vertex.sets_free() && !before.as_ref().is_some_and(Vertex::sets_free) {
            works.push(Work::Orphan(uid.clone()));
        }
        let old_owners = before.as_ref().map(Vertex::owners).unwrap_or_default();
        works.extend(self.link(&uid, object.metadata(), old_owners, vertex.owners()));
        self.absent.remove(&uid);
        self.vertices.insert(uid, vertex);
        works
    }

    /// Brings the owners' side up to date.
    fn link(&mut self, uid: &str, meta: &ObjectMeta, before: &[OwnerReference], after: &[OwnerReference]) -> Vec<Work> {
        let mut works = Vec::new();
        for gone in before.iter().filter(|old| !after.iter().any(|new| new.uid == old.uid)) {
            if let Some(owner) = self.vertices.get_mut(&gone.uid) {
                owner.dependents.remove(uid);
                works.extend(owner.waits_for_dependents().then(|| Work::Judge(gone.uid.clone())));
            }
        }
        for owner in after.iter().filter(|owner| owner.uid != uid) {
            let is_new = !before.iter().any(|old| old.uid == owner.uid);
            let vertex = self.vertices.entry(owner.uid.clone()).or_insert_with(|| {
                let identity = Identity {
                    api_version: owner.api_version.clone(),
                    kind: owner.kind.clone(),
                    namespace: meta::namespace(meta).to_owned(),
                    name: owner.name.clone(),
                };
                Vertex { subject: Subject::Named(Box::new(identity)), dependents: HashSet::new() }
            });
            vertex.dependents.insert(uid.to_owned());
            let blocks = |list: &[OwnerReference]| {
                list.iter().any(|one| one.uid == owner.uid && one.block_owner_deletion == Some(true))
            };
            let unblocked = !is_new && blocks(before) && !blocks(after);
            if vertex.is_virtual() && is_new {
                // Nobody has seen this owner: is it there at all? Its dependent is judged once that is known.
                works.push(Work::Judge(owner.uid.clone()));
            } else if vertex.waits_for_dependents() && is_new {
                works.push(Work::Judge(uid.to_owned()));
            }
            if vertex.waits_for_dependents() && unblocked {
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
        for owner in vertex.owners() {
            if let Some(above) = self.vertices.get_mut(&owner.uid) {
                above.dependents.remove(uid);
                works.extend(above.waits_for_dependents().then(|| Work::Judge(owner.uid.clone())));
                if above.is_virtual() && above.dependents.is_empty() {
                    self.vertices.remove(&owner.uid);
                }
            }
        }
        works
    }

    /// The server does not serve this resource any more.
    pub fn drop_resource(&mut self, served: &Served) -> Vec<Work> {
        let of_resource = |vertex: &Vertex| match &vertex.subject {
            Subject::Seen(Seen { resource, .. }) => {
                (&resource.group, &resource.version, &resource.kind) == (&served.group, &served.version, &served.kind)
            }
            Subject::Named(_) => false,
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
            let owners = self.vertices.get(*dependent).map(Vertex::owners).unwrap_or_default();
            owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        vertex.dependents.iter().filter(blocks).cloned().collect()
    }

    /// The owners with which the object waits in a circle: each is being deleted in the foreground and waits for the next, so
    /// none would ever go. Nothing but its blocking references holds such a circle together.
    pub fn circle(&self, uid: &str) -> Vec<Uid> {
        let waits = |uid: &str| self.vertices.get(uid).is_some_and(Vertex::waits_for_dependents);
        let mut behind = HashSet::new();
        let mut next = vec![uid.to_owned()];
        while let Some(at) = next.pop() {
            let blocking = self.blocking_dependents(&at).into_iter();
            next.extend(blocking.filter(|dependent| waits(dependent) && behind.insert(dependent.clone())));
        }
        // Whoever waits for this object, and is waited for by it.
        if !behind.contains(uid) {
            return Vec::new();
        }
        let owners = self.vertices.get(uid).map(Vertex::owners).unwrap_or_default();
        let blocked = owners.iter().filter(|owner| owner.block_owner_deletion == Some(true));
        blocked.filter(|owner| behind.contains(&owner.uid)).map(|owner| owner.uid.clone()).collect()
    }
}
