use knarr_api::{registry::Resource, status::ApiError};
use serde_json::Value;

/// A group version whose objects are not in the store: they are made up when somebody asks for them, and can only be
/// read. Selectors, tables and forms are the server's work as for every other resource.
pub trait ObjectSource: Send + Sync + 'static {
    /// Group and version, such as `metrics.k8s.io` and `v1beta1`; what is in it says the registry.
    fn serves(&self) -> (&'static str, &'static str);
    /// The objects there are now; an empty namespace or name means all.
    fn objects(&self, resource: &'static Resource, namespace: &str, name: &str) -> Result<Vec<Value>, ApiError>;
    /// What is said of an object that is not there.
    fn not_found(&self, resource: &'static Resource, _namespace: &str, name: &str) -> ApiError {
        ApiError::not_found(&resource.qualified_name(), name)
    }
}
