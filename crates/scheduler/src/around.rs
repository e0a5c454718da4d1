//! What a decision asks about besides nodes and pods.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    policy::v1::PodDisruptionBudget,
};
use knarr_client::{Informer, Informers};

use crate::terms::Labels;

pub trait Around {
    fn namespace_labels(&self, namespace: &str) -> Labels;
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;
    fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>>;
}

/// As the API server says it.
pub struct Caches {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    budgets: Informer<PodDisruptionBudget>,
}

impl Caches {
    pub fn of(informers: &Informers) -> Self {
        Self { namespaces: informers.of(), services: informers.of(), budgets: informers.of() }
    }

    pub async fn synced(&self) -> bool {
        self.namespaces.synced().await && self.services.synced().await && self.budgets.synced().await
    }
}

impl Around for Caches {
    fn namespace_labels(&self, namespace: &str) -> Labels {
        let namespace = self.namespaces.get("", namespace);
        namespace.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default()
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.services.in_namespace(namespace)
    }

    fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>> {
        self.budgets.in_namespace(namespace)
    }
}
