use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use knarr_api::registry::Resource;
use knarr_api::status::ApiError;
use knarr_api::volume::BETA_CLASS;
use serde_json::Value;

use super::is_main;
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation};
use crate::derived::Derived;
use crate::json::{annotation, name, text};

struct Class {
    name: String,
    created: String,
}

/// Classes that an annotation marks as the default. The newest wins, as upstream has it, then the first name.
struct Defaults {
    lookup: Arc<dyn Lookup>,
    marked: Mutex<Derived<Class>>,
}

impl Defaults {
    fn new(lookup: Arc<dyn Lookup>, resource: &'static Resource, project: fn(&Value) -> Option<Class>) -> Self {
        Self { lookup, marked: Mutex::new(Derived::new(resource, "", project)) }
    }

    fn name(&self) -> Option<String> {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        marked.refresh(&*self.lookup);
        let newest = marked.iter().min_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)))?;
        Some(newest.name.clone())
    }
}

fn marked(object: &Value, key: &str) -> Option<Class> {
    (annotation(object, key) == "true").then(|| Class {
        name: name(object).to_owned(),
        created: text(&object["metadata"]["creationTimestamp"]).to_owned(),
    })
}

/// Gives a claim that names no class the default one.
pub struct DefaultStorageClass(Defaults);

impl DefaultStorageClass {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self(Defaults::new(lookup, builtin::storage_classes(), |object| {
            marked(object, "storageclass.kubernetes.io/is-default-class")
                .or_else(|| marked(object, "storageclass.beta.kubernetes.io/is-default-class"))
        }))
    }
}

#[async_trait]
impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation != Operation::Create || !is_main(request, "", "persistentvolumeclaims") {
            return Ok(());
        }
        // An empty name is a choice: no class at all.
        let object = &mut request.object;
        let has_class = !object["spec"]["storageClassName"].is_null()
            || object["metadata"]["annotations"].get(BETA_CLASS).is_some();
        if let (false, Some(class)) = (has_class || !object["spec"].is_object(), self.0.name()) {
            object["spec"]["storageClassName"] = class.into();
        }
        Ok(())
    }
}

/// Gives an Ingress that names no class the default one.
pub struct DefaultIngressClass(Defaults);

impl DefaultIngressClass {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self(Defaults::new(lookup, builtin::ingress_classes(), |object| {
            marked(object, "ingressclass.kubernetes.io/is-default-class")
        }))
    }
}

#[async_trait]
impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation != Operation::Create || !is_main(request, "networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let object = &mut request.object;
        let has_class = !object["spec"]["ingressClassName"].is_null()
            || object["metadata"]["annotations"].get("kubernetes.io/ingress.class").is_some();
        if let (false, Some(class)) = (has_class || !object["spec"].is_object(), self.0.name()) {
            object["spec"]["ingressClassName"] = class.into();
        }
        Ok(())
    }
}
