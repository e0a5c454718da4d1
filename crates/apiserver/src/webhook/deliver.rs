//! One question to one webhook.

use bytes::Bytes;
use serde_json::Value;

use super::{
    configuration::Hook,
    error::{CallError, denied},
    invocation::Invocation,
    review::{self, Answer},
};
use crate::{matching::Subject, server::Inner};
use knarr_api::{field::quote, status::ApiError};

/// More than any patch of an object that can be stored.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A review that is ready to be sent.
pub(super) struct Prepared {
    uid: String,
    body: Bytes,
}

impl Inner {
    /// Writes the review of an invocation.
    pub(super) fn prepare(
        &self,
        subject: &Subject<'_, '_>,
        invocation: &Invocation,
        object: Value,
        old: Value,
    ) -> Result<Prepared, CallError> {
        let hook = &invocation.hook;
        if subject.request.dry_run && !hook.dry_runnable {
            let why = format!("admission webhook {} does not support dry run", quote(&hook.name));
            return Err(CallError::Internal(ApiError::bad_request(why)));
        }
        let version = version(hook)?;
        let uid = self.webhooks.client.uid();
        let review = review::request(subject, invocation, version, &uid, object, old);
        Ok(Prepared { uid, body: review.to_string().into() })
    }

    /// Sends it, and waits for an answer that allows. Warnings count either way.
    pub(super) async fn deliver(
        &self,
        hook: &Hook,
        prepared: Prepared,
        is_mutating: bool,
    ) -> (Result<Answer, CallError>, Vec<String>) {
        match self.asked(hook, prepared, is_mutating).await {
            Ok(mut answer) => {
                let warnings = std::mem::take(&mut answer.warnings);
                if answer.allowed {
                    return (Ok(answer), warnings);
                }
                (Err(CallError::Rejected(denied(&hook.name, &answer.result))), warnings)
            }
            Err(error) => (Err(error), Vec::new()),
        }
    }

    async fn asked(&self, hook: &Hook, prepared: Prepared, is_mutating: bool) -> Result<Answer, CallError> {
        let Prepared { uid, body } = prepared;
        let target = hook
            .target
            .as_ref()
            .map_err(|why| CallError::Calling { why: format!("could not get REST client: {why}"), code: 500 })?;
        let answer = self.webhooks.client.post(target, body, hook.timeout, MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|failure| CallError::Calling {
            why: format!("failed to call webhook: {}", failure.why),
            code: failure.code,
        })?;
        review::answer(hook, version(hook)?, &uid, &answer, is_mutating)
    }
}

fn version(hook: &Hook) -> Result<super::configuration::ReviewVersion, CallError> {
    hook.review.ok_or_else(|| CallError::Calling {
        why: "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
            .into(),
        code: 400,
    })
}
