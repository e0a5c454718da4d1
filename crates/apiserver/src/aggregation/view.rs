use std::sync::Arc;

use super::{
    Route, Routes,
    documents::{Document, Documents},
    priorities,
};
use crate::custom::Snapshot;

/// What is served at one moment: by this server, and by others under its roof.
#[derive(Clone)]
pub struct View {
    pub snapshot: Arc<Snapshot>,
    pub routes: Arc<Routes>,
    pub documents: Arc<Documents>,
}

impl View {
    pub fn new(snapshot: Arc<Snapshot>, routes: Arc<Routes>, documents: Arc<Documents>) -> Self {
        Self { snapshot, routes, documents }
    }

    /// Differs whenever something else may be served.
    pub fn generation(&self) -> (u64, u64, u64) {
        (self.snapshot.generation, self.routes.generation, self.documents.generation)
    }

    /// Of a group among groups, and of a version among its versions.
    pub fn priority(&self, group: &str, version: &str) -> (i64, i64) {
        self.routes.priority(group, version).unwrap_or_else(|| priorities::of(group, version))
    }

    pub fn is_elsewhere(&self, group: &str, version: &str) -> bool {
        self.routes.find(group, version).is_some()
    }

    /// The group versions that others answer, with what they say of them.
    pub fn elsewhere(&self) -> impl Iterator<Item = (&Arc<Route>, Option<&Arc<Document>>)> {
        self.routes.remote().map(|route| (route, self.documents.get(&route.group, &route.version)))
    }

    /// The route for `/openapi/v3/apis/GROUP/VERSION` of a server that has such a document.
    pub fn documented_elsewhere(&self, path: &str) -> Option<Arc<Route>> {
        let wanted = path.strip_prefix("/openapi/v3")?;
        let found = self.elsewhere().find(|(route, _)| route.path() == wanted)?;
        found.1.filter(|document| document.v3_hash.is_some())?;
        Some(found.0.clone())
    }
}
