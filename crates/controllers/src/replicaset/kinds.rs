//! What the two kinds have in common. A ReplicationController is a ReplicaSet whose selector is written as a plain map.

use std::borrow::Cow;

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector as Typed,
};
use knarr_api::selector::LabelSelector;
use knarr_client::{call::Kind, informer::Object};

use super::{REPLICA_SETS, REPLICATION_CONTROLLERS};
use crate::{Error, common::selector};

pub trait Replicated: Kind + Object + Clone {
    /// The controller's name.
    const CONTROLLER: &'static str;

    fn selector(&self) -> Result<LabelSelector, Error>;
    fn as_set(&self) -> Cow<'_, ReplicaSet>;
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
    fn says(&self, status: &ReplicaSetStatus) -> bool;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = REPLICA_SETS;

    fn selector(&self) -> Result<LabelSelector, Error> {
        selector::of_workload(self.spec.as_ref().map(|spec| &spec.selector))
    }

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }

    fn says(&self, status: &ReplicaSetStatus) -> bool {
        self.status.as_ref() == Some(status)
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = REPLICATION_CONTROLLERS;

    fn selector(&self) -> Result<LabelSelector, Error> {
        selector::of_workload(Some(&by_labels(self)))
    }

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().map(|spec| ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: by_labels(self),
            template: spec.template,
        });
        let status = self.status.clone().map(|status| ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|conditions| {
                let convert = |condition: ReplicationControllerCondition| ReplicaSetCondition {
                    last_transition_time: condition.last_transition_time,
                    message: condition.message,
                    reason: condition.reason,
                    status: condition.status,
                    type_: condition.type_,
                };
                conditions.into_iter().map(convert).collect()
            }),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        });
        Cow::Owned(ReplicaSet { metadata: self.metadata.clone(), spec, status })
    }

    /// It does not say how many of its pods are on their way out.
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let convert = |condition: ReplicaSetCondition| ReplicationControllerCondition {
            last_transition_time: condition.last_transition_time,
            message: condition.message,
            reason: condition.reason,
            status: condition.status,
            type_: condition.type_,
        };
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|conditions| conditions.into_iter().map(convert).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        Self { status: Some(status), ..self.clone() }
    }

    fn says(&self, status: &ReplicaSetStatus) -> bool {
        self.as_set().status == Some(ReplicaSetStatus { terminating_replicas: None, ..status.clone() })
    }
}

fn by_labels(controller: &ReplicationController) -> Typed {
    let labels = controller.spec.as_ref().and_then(|spec| spec.selector.clone());
    Typed { match_labels: labels, match_expressions: None }
}
