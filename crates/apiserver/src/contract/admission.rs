use async_trait::async_trait;
use knarr_api::{registry::Resource, status::ApiError};
use serde_json::Value;

use super::UserInfo;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    pub operation: Operation,
    pub resource: &'static Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty while a `generateName` has not been resolved.
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// The object as it would be stored; `Null` for a deletion.
    pub object: Value,
    /// The object as it is stored; `None` for a creation.
    pub old: Option<&'a Value>,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions.
    pub options: &'a Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// When a plugin has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before what the cluster's users have configured.
    BuiltIn,
    /// After everybody else has agreed: for what takes something away that a refusal would have to give back.
    Last,
}

/// A built-in admission plugin: all plugins mutate first, in order; then all validate.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// The plugin's name as upstream has it, such as `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    fn stage(&self) -> Stage {
        Stage::BuiltIn
    }
    /// Whether it has to see each one of many objects that are the same but for their names, since it takes something
    /// away for each.
    fn counts(&self, _resource: &'static Resource, _namespace: &str) -> bool {
        self.stage() == Stage::Last
    }
    async fn mutate(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        Ok(())
    }
    async fn validate(&self, _request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        Ok(())
    }
    /// What the client is to hear of a write that the plugin has let in, in its final form.
    fn remarks(&self, _request: &AdmissionRequest<'_>) -> Vec<String> {
        Vec::new()
    }
}
