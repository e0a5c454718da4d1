//! What the server's own parts may ask of it.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use knarr_api::{registry::Resource, status::ApiError};
use serde_json::Value;

use super::Inner;
use crate::{
    builtin,
    cache::{Caches, ResourceCache, object_key},
    contract::{Ask, ChangeFn, Lookup, Stored, UserInfo},
    write::{Call, Change, Validation, WriteOptions, note, text},
};

const ITSELF: &str = "knarr-apiserver";

/// Reads go to the caches at once; writes take the whole generic path.
pub struct ServerLookup {
    caches: Arc<Caches>,
    /// Weak, since the server owns the plugins that own this.
    server: OnceLock<Weak<Inner>>,
}

impl ServerLookup {
    pub(super) fn new(caches: Arc<Caches>) -> Self {
        Self { caches, server: OnceLock::new() }
    }

    pub(super) fn attach(&self, server: &Arc<Inner>) {
        // A second call would be a second server around the same lookup, which the builder never makes.
        let _ = self.server.set(Arc::downgrade(server));
    }

    /// What is read of it is noted, where somebody wants to know.
    fn cache(&self, resource: &'static Resource) -> Option<Arc<ResourceCache>> {
        note(resource, &self.caches);
        self.caches.of(resource)
    }

    fn server(&self) -> Result<Arc<Inner>, ApiError> {
        let server = self.server.get().and_then(Weak::upgrade);
        server.ok_or_else(|| ApiError::service_unavailable("the API server is starting or stopping; try again"))
    }
}

fn options() -> WriteOptions {
    WriteOptions { validation: Validation::Ignore, manager: ITSELF.into(), ..WriteOptions::default() }
}

#[async_trait]
impl Lookup for ServerLookup {
    fn get(&self, resource: &'static Resource, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.cache(resource)?.get(&object_key(namespace, name))
    }

    fn list(&self, resource: &'static Resource, namespace: &str) -> Vec<Arc<Stored>> {
        self.cache(resource).map_or_else(Vec::new, |cache| cache.list(namespace, None, 0, None).0.items)
    }

    fn pods_of(&self, node: &str) -> Vec<Arc<Stored>> {
        self.cache(builtin::pods()).map_or_else(Vec::new, |cache| cache.list_by(node))
    }

    fn generation(&self, resource: &'static Resource) -> u64 {
        self.cache(resource).map_or(0, |cache| cache.generation())
    }

    async fn get_fresh(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Stored>>, ApiError> {
        self.caches.fresh().await?;
        Ok(self.get(resource, namespace, name))
    }

    async fn admit(&self, ask: Ask<'_>, object: Value) -> Result<Value, ApiError> {
        self.server()?.ask_users(ask, object).await
    }

    async fn create(&self, user: &UserInfo, resource: &'static Resource, mut object: Value) -> Result<Value, ApiError> {
        let (group, version, kind) = resource.gvk();
        crate::codec::set_type(&mut object, group, version, kind)?;
        let options = options();
        let (namespace, name) = (text(&object, "namespace").to_owned(), text(&object, "name").to_owned());
        let server = self.server()?;
        let custom = server.catalogue.custom(resource);
        let call = Call {
            resource,
            custom: custom.as_deref(),
            namespace: &namespace,
            name: &name,
            subresource: "",
            user,
            options: &options,
        };
        Ok(server.create(call, object).await?.object.value())
    }

    async fn modify(
        &self,
        user: &UserInfo,
        resource: &'static Resource,
        subresource: &'static str,
        namespace: &str,
        name: &str,
        change: &mut ChangeFn<'_>,
    ) -> Result<Arc<Stored>, ApiError> {
        let options = options();
        let server = self.server()?;
        let custom = server.catalogue.custom(resource);
        let call = Call { resource, custom: custom.as_deref(), namespace, name, subresource, user, options: &options };
        let mut round = |current: Option<&Value>| {
            let current = current.ok_or_else(|| ApiError::not_found(&resource.qualified_name(), name))?;
            let mut object = current.clone();
            change(&mut object)?;
            Ok(Change::of_current(object))
        };
        Ok(server.update(call, &mut round).await?.object)
    }

    async fn delete(
        &self,
        user: &UserInfo,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: Value,
    ) -> Result<Value, ApiError> {
        let dry_run = options["dryRun"].as_array().is_some_and(|all| !all.is_empty());
        let options = WriteOptions { dry_run, raw: options, manager: ITSELF.into(), ..WriteOptions::default() };
        let server = self.server()?;
        let custom = server.catalogue.custom(resource);
        let call =
            Call { resource, custom: custom.as_deref(), namespace, name, subresource: "", user, options: &options };
        Ok(server.delete(call).await?.object.value())
    }
}
