//! The table of built-in resources: what is served, under which names, with which verbs and subresources.
//!
//! The rows come from `data/resources-1.36.tsv`, which the build turns into statics; a built-in is added there.
//! Custom resources use the same [`Resource`] shape, so that handlers need to know one only.

#[cfg(test)]
mod tests;

use std::fmt;

include!(concat!(env!("OUT_DIR"), "/registry.rs"));

/// Whether objects of a resource live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// What can be done with a resource, in the words of discovery and RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of an object with a path of its own, such as `pods/status` or `pods/log`.
#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of what is sent and answered; `pods/eviction` takes a `policy/v1` Eviction.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [Verb],
}

/// One resource in one version. Rows live as long as the process; compare them with [`Resource::same`].
#[derive(Debug)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// Of a list of them; empty where it is the kind with `List` behind it, as it is for every built-in.
    pub custom_list_kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub namespaced: bool,
    pub verbs: &'static [Verb],
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Names the keys in the store. Equal for rows that show the same objects: Events of the core group and of
    /// `events.k8s.io`, and HorizontalPodAutoscalers of both versions.
    pub storage: &'static str,
}

impl Resource {
    pub fn scope(&self) -> Scope {
        if self.namespaced { Scope::Namespaced } else { Scope::Cluster }
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> (&'static str, &'static str, &'static str) {
        (self.group, self.version, self.kind)
    }

    /// As it stands in an object's `apiVersion`: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn list_kind(&self) -> String {
        match self.custom_list_kind {
            "" => format!("{}List", self.kind),
            kind => kind.to_owned(),
        }
    }

    /// `deployments.apps`, and `pods` for the core group: how messages and RBAC name a resource.
    pub fn qualified_name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub fn same(&self, other: &Resource) -> bool {
        self.group == other.group && self.version == other.version && self.plural == other.plural
    }

    /// The row in whose form the objects are stored; mostly the row itself.
    pub fn stored_as(&'static self) -> &'static Resource {
        match (self.group, self.kind) {
            ("events.k8s.io", "Event") => by_kind("", "v1", "Event").unwrap_or(self),
            ("autoscaling", "HorizontalPodAutoscaler") => {
                by_kind("autoscaling", "v2", "HorizontalPodAutoscaler").unwrap_or(self)
            }
            _ => self,
        }
    }
}

/// Every built-in, ordered by group (the core group first), version and plural.
pub fn builtins() -> &'static [Resource] {
    BUILTINS
}

/// The row of `/apis/{group}/{version}/{plural}`.
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    BUILTINS.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// The row of an object's `apiVersion` and `kind`.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    BUILTINS.iter().find(|r| r.kind == kind && r.group == group && r.version == version)
}
