//! What a controller wrote of its objects and its cache may not show yet. The caches of two kinds run apart: that of
//! the pods may show what came of a status before that of the owners shows the status itself, and counting both
//! together would then miss what moved from one to the other.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knarr_client::meta;

/// The newest resourceVersion written, by uid. Bounded by the objects: a controller forgets those that are gone.
#[derive(Default)]
pub struct Written {
    newest: Mutex<HashMap<String, u64>>,
}

/// Resource versions can be compared
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
fn version(object: &ObjectMeta) -> u64 {
    object.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Written {
    /// Remembers an object as the server answered the write.
    pub fn note(&self, object: &ObjectMeta) {
        let mut newest = self.newest();
        let known = newest.entry(meta::uid(object).to_owned()).or_default();
        *known = (*known).max(version(object));
    }

    /// True for an object from the cache that is older than what was written of it; its change is on the way.
    pub fn is_outdated(&self, object: &ObjectMeta) -> bool {
        self.newest().get(meta::uid(object)).is_some_and(|newest| version(object) < *newest)
    }

    pub fn forget(&self, uid: &str) {
        self.newest().remove(uid);
    }

    fn newest(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_believed_once_it_has_caught_up() {
        let object = |uid: &str, version: &str| ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        let written = Written::default();
        assert!(!written.is_outdated(&object("a", "9")), "nothing was written");
        written.note(&object("a", "10"));
        written.note(&object("a", "8"));
        for (uid, version, expected) in [("a", "9", true), ("a", "10", false), ("a", "11", false), ("b", "1", false)] {
            assert_eq!(written.is_outdated(&object(uid, version)), expected, "{uid} {version}");
        }
        written.forget("a");
        assert!(!written.is_outdated(&object("a", "9")));
    }
}
