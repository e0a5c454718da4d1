//! Whether a webhook is asked about a request, and as what.

use std::sync::Arc;

use knarr_api::status::ApiError;
use serde_json::Value;

use super::configuration::Hook;
use crate::{admission::denied, custom::Found, matching::Subject, server::Inner};

/// A webhook that wants to be asked, and as what.
pub(super) struct Invocation {
    pub hook: Arc<Hook>,
    /// The place of the webhook among all, as audit annotations count.
    pub index: usize,
    pub found: Found,
}

impl Inner {
    /// The webhook's call, where it wants one for this request.
    pub(super) async fn invocation(
        &self,
        hook: &Arc<Hook>,
        index: usize,
        subject: &Subject<'_, '_>,
        is_mutating: bool,
    ) -> Result<Option<Invocation>, ApiError> {
        let Some(found) = self.matched(&hook.criteria, subject).await? else { return Ok(None) };
        if !hook.conditions.is_empty() && !self.meets_conditions(hook, &found, subject, is_mutating).await? {
            return Ok(None);
        }
        Ok(Some(Invocation { hook: hook.clone(), index, found }))
    }

    /// Conditions that cannot be evaluated refuse the request, or spare it the webhook, as the failure policy says.
    async fn meets_conditions(
        &self,
        hook: &Hook,
        found: &Found,
        subject: &Subject<'_, '_>,
        is_mutating: bool,
    ) -> Result<bool, ApiError> {
        let view = self.seen(subject, found, is_mutating, hook.conditions.uses_namespace()).await?;
        let matched = hook.conditions.matches(&view.input(&Value::Null));
        let (metrics, operation) = (&self.metrics.webhooks, subject.request.operation);
        metrics.observe_conditions(&hook.name, is_mutating, operation, &matched);
        match matched.matches {
            Err(why) if !hook.ignores_failure => Err(denied(subject.request, why)),
            Err(_) => Ok(false),
            Ok(matches) => Ok(matches),
        }
    }
}
