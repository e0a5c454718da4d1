//! ValidatingAdmissionWebhook: all at once, since none can change what the others see. The first that says no is
//! answered.

use futures::{StreamExt, stream::FuturesUnordered};
use knarr_api::status::ApiError;
use tokio::time::Instant;

use super::{deliver::Prepared, error::CallError, invocation::Invocation, review::Answer};
use crate::{audit, contract::Operation, matching::Subject, server::Inner};

/// What one webhook said.
struct Said {
    at: usize,
    outcome: Result<Answer, CallError>,
    warnings: Vec<String>,
}

impl Inner {
    pub(crate) async fn validate_by_webhooks(&self, subject: &mut Subject<'_, '_>) -> Result<(), ApiError> {
        if subject.is_exempt_from_webhooks() {
            return Ok(());
        }
        let hooks = self.webhooks.configurations.validating();
        let mut invocations = Vec::new();
        for (index, hook) in hooks.all.iter().enumerate() {
            invocations.extend(self.invocation(hook, index, subject, false).await?);
        }
        let mut running = FuturesUnordered::new();
        for (at, invocation) in invocations.iter().enumerate() {
            let (object, old) = self.shown(subject, &invocation.found, false).await?;
            let prepared = self.prepare(subject, invocation, object.into_owned(), old.into_owned());
            running.push(self.validate_by(invocation, at, prepared, subject.request.operation));
        }
        while let Some(Said { at, outcome, warnings }) = running.next().await {
            let invocation = &invocations[at];
            let hook = &invocation.hook;
            subject.request.warnings.extend(warnings);
            match outcome {
                Ok(answer) => answer.publish(),
                Err(CallError::Calling { why, .. }) if hook.ignores_failure => {
                    tracing::warn!(
                        webhook = hook.name,
                        why,
                        "a webhook could not be asked and is passed over, as it wants"
                    );
                    let key =
                        format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{}", invocation.index);
                    audit::annotate(&key, hook.name.clone());
                }
                Err(error) => return Err(error.into_api(&hook.name)),
            }
        }
        Ok(())
    }

    async fn validate_by(
        &self,
        invocation: &Invocation,
        at: usize,
        prepared: Result<Prepared, CallError>,
        operation: Operation,
    ) -> Said {
        let began = Instant::now();
        let (outcome, warnings) = match prepared {
            Ok(prepared) => self.deliver(&invocation.hook, prepared, false).await,
            Err(error) => (Err(error), Vec::new()),
        };
        let error = outcome.as_ref().err();
        self.metrics.webhooks.observe(&invocation.hook, false, operation, began.elapsed(), error);
        Said { at, outcome, warnings }
    }
}
