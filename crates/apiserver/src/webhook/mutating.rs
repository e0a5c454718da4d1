//! MutatingAdmissionWebhook: one after the other, each sees what those before it made of the object.

use knarr_api::{patch::json_patch, status::ApiError};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{configuration::Hook, error::CallError, invocation::Invocation};
use crate::{
    audit,
    matching::{Key, Rounds, Subject, check_type},
    server::Inner,
    write::Validation,
};

fn identity(hook: &Hook) -> Key {
    (hook.configuration.clone(), hook.name.clone(), String::new())
}

impl Inner {
    /// Asks all webhooks of one round.
    pub(crate) async fn mutate_by_webhooks(
        &self,
        subject: &mut Subject<'_, '_>,
        rounds: &mut Rounds,
    ) -> Result<(), ApiError> {
        if subject.is_exempt_from_webhooks() {
            return Ok(());
        }
        let hooks = self.webhooks.configurations.mutating();
        for (index, hook) in hooks.all.iter().enumerate() {
            let Some(invocation) = self.invocation(hook, index, subject, true).await? else { continue };
            if !rounds.has_turn(&identity(hook)) {
                continue;
            }
            let changed = self.mutate_by(&invocation, subject, rounds.is_second).await?;
            if changed {
                rounds.change();
            }
            if hook.reinvoked {
                rounds.wants_again(identity(hook));
            }
        }
        rounds.leave(&subject.request.object);
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
        audit::annotate(&format!("mutation.webhook.admission.k8s.io/{place}"), who.to_string());
        match outcome {
            Ok(changed) => Ok(changed),
            Err(CallError::Calling { why, .. }) if hook.ignores_failure => {
                tracing::warn!(
                    webhook = hook.name,
                    why,
                    "a webhook could not be asked and is passed over, as it wants"
                );
                let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                audit::annotate(&key, hook.name.clone());
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
        let (object, old) = (object.into_owned(), old.into_owned());
        let prepared = self.prepare(subject, invocation, object.clone(), old)?;
        let (outcome, warnings) = self.deliver(hook, prepared, true).await;
        subject.request.warnings.extend(warnings);
        let answer = outcome?;
        answer.publish();
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
        check_type(subject, found, &mut patched, Validation::Ignore).map_err(CallError::Internal)?;
        let who = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": patch,
            "patchType": "JSONPatch"});
        audit::annotate(&format!("patch.webhook.admission.k8s.io/{place}"), who.to_string());
        if patched == object {
            return Ok(false);
        }
        self.take_back(subject, found, patched).await.map_err(CallError::Internal)?;
        Ok(true)
    }
}
