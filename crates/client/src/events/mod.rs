//! Events about objects, for `kubectl describe` and `kubectl get events`.
//!
//! Recording never waits and never fails the caller: events go through a bounded channel to a task that counts
//! repetitions (client-go's correlator: one Event object with a growing count) and writes them.

mod correlate;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Clock, call, errors};
use correlate::{Correlated, Correlator, Observed};

/// Events that wait to be written; more are dropped, with a warning in the log.
const CHANNEL_CAPACITY: usize = 4096;
/// Writes under way at once: few, since what events tell of matters more than they do.
const MAX_WRITES: usize = 8;
/// Where many wait, their work is still going on and needs the processors more than the telling: one is written each.
const PACE: Duration = Duration::from_millis(2);
/// With so many waiting, some would soon be lost, and they are written as fast as can be.
const HURRY: usize = CHANNEL_CAPACITY / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Records events of one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Observed>,
    component: &'static str,
    host: String,
    clock: Clock,
}

impl Recorder {
    /// `component` is what events name as their source, such as `replicaset-controller`; `host` is the node's
    /// name for the node agent and empty for others.
    pub fn new(
        client: kube::Client,
        component: &'static str,
        host: impl Into<String>,
        clock: Clock,
        cancel: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(CHANNEL_CAPACITY);
        tokio::spawn(write_all(client, receiver, cancel));
        Self { sender, component, host: host.into(), clock }
    }

    /// The same writer under another component's name.
    pub fn for_component(&self, component: &'static str) -> Self {
        Self { component, ..self.clone() }
    }

    pub fn normal<K: Resource<DynamicType = ()>>(&self, about: &K, reason: &str, message: impl Into<String>) {
        self.record(reference(about), EventType::Normal, reason, message.into());
    }

    pub fn warning<K: Resource<DynamicType = ()>>(&self, about: &K, reason: &str, message: impl Into<String>) {
        self.record(reference(about), EventType::Warning, reason, message.into());
    }

    /// About anything that can be referred to, a field of an object (`spec.containers{app}`) included.
    pub fn record(&self, about: ObjectReference, kind: EventType, reason: &str, message: String) {
        self.record_annotated(about, kind, reason, message, BTreeMap::new());
    }

    pub fn record_annotated(
        &self,
        about: ObjectReference,
        kind: EventType,
        reason: &str,
        message: String,
        annotations: BTreeMap<String, String>,
    ) {
        let observed = Observed {
            about,
            kind,
            reason: reason.to_owned(),
            message,
            annotations,
            component: self.component,
            host: self.host.clone(),
            at: self.clock.now(),
        };
        if let Err(mpsc::error::TrySendError::Full(lost)) = self.sender.try_send(observed) {
            tracing::warn!(reason = lost.reason, about = lost.about.name, "too many events at once; one is lost");
        }
    }
}

/// What an event says it is about.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Each write waits for the disk, so several are under way at once; what an event is counted on is decided before.
async fn write_all(client: kube::Client, mut receiver: mpsc::Receiver<Observed>, cancel: CancellationToken) {
    let mut correlator = Correlator::default();
    let mut writes = JoinSet::new();
    loop {
        let observed = tokio::select! {
            observed = receiver.recv() => observed,
            () = cancel.cancelled() => None,
        };
        let Some(observed) = observed else { return };
        let Some(correlated) = correlator.observe(&observed) else { continue };
        while writes.len() >= MAX_WRITES || writes.try_join_next().is_some() {
            if writes.len() >= MAX_WRITES {
                writes.join_next().await;
            }
        }
        if (1..HURRY).contains(&receiver.len()) {
            tokio::time::sleep(PACE).await;
        }
        let client = client.clone();
        writes.spawn(async move {
            if let Err(error) = write(&client, observed, &correlated).await {
                let cause = &error as &dyn std::error::Error;
                tracing::debug!(reason = correlated.reason, error = cause, "an event could not be written");
            }
        });
    }
}

/// Patches the count of the Event there is, else creates one.
async fn write(client: &kube::Client, observed: Observed, correlated: &Correlated) -> Result<(), kube::Error> {
    let namespace = observed.about.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if correlated.count > 1 {
        let patch = serde_json::json!({
            "count": correlated.count,
            "lastTimestamp": Time(observed.at),
            "message": correlated.message,
        });
        let patched = events.patch(&correlated.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        if errors::optional(patched)?.is_some() {
            return Ok(());
        }
    }
    let event = new_event(observed, correlated, &namespace);
    match call::create_named(client, &event).await {
        Ok(_) => Ok(()),
        // Its first writing came through meanwhile.
        Err(error) if errors::is_already_exists(&error) => Ok(()),
        // The namespace is going away, and its events with it.
        Err(error) if errors::is_namespace_terminating(&error) || errors::is_not_found(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn new_event(observed: Observed, correlated: &Correlated, namespace: &str) -> Event {
    let Observed { about, kind, component, host, at, annotations, .. } = observed;
    Event {
        metadata: ObjectMeta {
            name: Some(correlated.name.clone()),
            namespace: Some(namespace.to_owned()),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..Default::default()
        },
        involved_object: about,
        reason: Some(correlated.reason.clone()),
        message: Some(correlated.message.clone()),
        type_: Some(kind.as_str().to_owned()),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: Some(host.clone()).filter(|h| !h.is_empty()),
        }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(host),
        first_timestamp: Some(Time(correlated.first)),
        last_timestamp: Some(Time(at)),
        count: Some(correlated.count),
        ..Default::default()
    }
}

impl Observed {
    /// What makes two events be about the same thing happening in the same place.
    fn place(&self) -> String {
        let about = &self.about;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!(
            "{}|{}|{}|{}|{}|{}|{}",
            self.component,
            self.host,
            text(&about.kind),
            text(&about.namespace),
            text(&about.name),
            meta_uid(about),
            text(&about.field_path),
        )
    }
}

fn meta_uid(about: &ObjectReference) -> &str {
    about.uid.as_deref().unwrap_or_default()
}
