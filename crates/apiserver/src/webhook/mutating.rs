//! MutatingAdmissionWebhook: one after the other, each sees what those before it made of the object.

use std::collections::BTreeSet;

use knarr_api::{patch::json_patch, status::ApiError};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    configuration::Hook,
    error::CallError,
    subject::{Invocation, Subject, kind},
};
use crate::{
    codec::{Repeated, Shape, check_fields},
    contract::AdmissionRequest,
    custom::Found,
    server::Inner,
    write::Validation,
};

/// What one round of webhooks leaves for the next. There are two at most: whatever changed the object in the first may
/// be reason for those before it to look again.
#[derive(Default)]
pub(crate) struct Rounds {
    is_second: bool,
    /// True once a webhook changed the object: built-in plugins, and the webhooks that want to, look again.
    pub changed: bool,
    /// Configuration and name of those that want to look again when something changes after them.
    eligible: BTreeSet<(String, String)>,
    /// Those that something changed after.
    again: BTreeSet<(String, String)>,
    /// The object as the first round left it.
    left: Value,
}

impl Rounds {
    /// Everybody that was eligible has something to look at again.
    fn require(&mut self) {
        self.again.append(&mut self.eligible);
    }

    /// Begins the second round. What built-in plugins changed in between is everybody's business.
    pub fn second(&mut self, object: &Value) {
        self.is_second = true;
        if *object != self.left {
            self.require();
        }
    }
}

fn identity(hook: &Hook) -> (String, String) {
    (hook.configuration.clone(), hook.name.clone())
}

impl Inner {
    /// Asks all webhooks of one round.
    pub(crate) async fn mutate_by_webhooks(
        &self,
        subject: &mut Subject<'_, '_>,
        rounds: &mut Rounds,
    ) -> Result<(), ApiError> {
        if subject.is_exempt() {
            return Ok(());
        }
        let hooks = self.webhooks.configurations.mutating();
        for (index, hook) in hooks.all.iter().enumerate() {
            let Some(invocation) = self.invocation(hook, index, subject).await? else { continue };
            if rounds.is_second && !rounds.again.contains(&identity(hook)) {
                continue;
            }
            let changed = self.mutate_by(&invocation, subject, rounds.is_second).await?;
            if changed {
                rounds.changed = true;
                rounds.require();
            }
            if hook.reinvoked {
                rounds.eligible.insert(identity(hook));
            }
        }
        rounds.left = subject.request.object.clone();
        Ok(())
    }

    /// True where the webhook changed the object.
    async fn mutate_by(
        &self,
        invocation: &Invocation,
        subject: &mut Subject<'_, '_>,
        is_second: bool,
    ) -> Result<bool, ApiError> {
        let (hook, began) = (&invocation.hook, Instant::now());
        let place = format!("round_{}_index_{}", u8::from(is_second), invocation.index);
        let outcome = self.try_mutate(invocation, subject, &place).await;
        let operation = subject.request.operation;
        self.metrics.webhooks.observe(hook, true, operation, began.elapsed(), outcome.as_ref().err());
        let who = json!({"configuration": hook.configuration, "webhook": hook.name,
            "mutated": outcome.as_ref().is_ok_and(|changed| *changed)});
        annotate(subject.request, format!("mutation.webhook.admission.k8s.io/{place}"), who.to_string());
        match outcome {
            Ok(changed) => Ok(changed),
            Err(CallError::Calling { why, .. }) if hook.ignores_failure => {
                tracing::warn!(
                    webhook = hook.name,
                    why,
                    "a webhook could not be asked and is passed over, as it wants"
                );
                let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                annotate(subject.request, key, hook.name.clone());
                Ok(false)
            }
            Err(error) => Err(error.into_api(&hook.name)),
        }
    }

    async fn try_mutate(
        &self,
        invocation: &Invocation,
        subject: &mut Subject<'_, '_>,
        place: &str,
    ) -> Result<bool, CallError> {
        let (hook, found) = (&invocation.hook, &invocation.found);
        let (object, old) = self.shown(subject, found, true).await.map_err(CallError::Internal)?;
        let prepared = self.prepare(subject, invocation, object.clone(), old)?;
        let (outcome, warnings) = self.deliver(hook, prepared, true).await;
        subject.request.warnings.extend(warnings);
        let answer = outcome?;
        subject.request.annotations.extend(answer.annotations);
        if answer.patch.is_empty() {
            return Ok(false);
        }
        let internal = |why: String| CallError::Internal(ApiError::internal(why));
        if object.is_null() {
            let why = "attempted to modify the object, which is not supported for this operation";
            return Err(internal(format!("admission webhook \"{}\" {why}", hook.name)));
        }
        let patch = Value::Array(answer.patch);
        let mut patched = json_patch(&object, &patch).map_err(|error| internal(error.to_string()))?;
        check_type(subject, found, &mut patched)?;
        let who = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": patch,
            "patchType": "JSONPatch"});
        annotate(subject.request, format!("patch.webhook.admission.k8s.io/{place}"), who.to_string());
        if patched == object {
            return Ok(false);
        }
        self.take_back(subject, found, patched).await.map_err(CallError::Internal)?;
        Ok(true)
    }
}

/// What a patch made must still be an object of its kind. Fields that a built-in kind does not know are dropped, as
/// they are by whoever decodes it; those of a custom resource are dropped when it is written.
fn check_type(subject: &Subject<'_, '_>, found: &Found, patched: &mut Value) -> Result<(), CallError> {
    let gvk = kind(found.resource, subject.subresource());
    let internal = |why: String| CallError::Internal(ApiError::internal(why));
    let (group, version, kind) = gvk;
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    if !patched.is_object() || patched["apiVersion"] != *api_version || patched["kind"] != *kind {
        return Err(internal(format!("a webhook made something else of an object of {api_version}, Kind={kind}")));
    }
    if let Some(custom) = &found.custom
        && gvk == found.resource.gvk()
    {
        return custom.version().unreadable(patched).map_or(Ok(()), |why| Err(internal(why)));
    }
    check_fields(Shape { gvk, custom: None }, patched, Repeated::default(), Validation::Ignore, &mut Vec::new())
        .map_err(|error| internal(error.message().to_owned()))
}

/// For the audit log. The first who says something under a name is heard, as upstream's events have it.
fn annotate(request: &mut AdmissionRequest<'_>, key: String, value: String) {
    if !request.annotations.iter().any(|(known, _)| *known == key) {
        request.annotations.push((key, value));
    }
}
