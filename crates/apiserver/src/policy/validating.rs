//! ValidatingAdmissionPolicy: every binding of every policy that is for a request is asked, since each may have
//! something to warn of or to log. The first refusal is the one that is answered.

use std::collections::BTreeMap;

use knarr_api::{
    policy::{Annotation, Decision, Judgement, ValidatingPolicy, Verdict},
    registry::Resource,
    status::{ApiError, Cause, Reason},
};
use serde_json::json;
use tokio::time::Instant;

use super::configuration::{Action, Binding, Bound};
use crate::{
    admission::denied,
    audit,
    custom::Found,
    matching::{Subject, View},
    server::Inner,
};

/// What an audit annotation says is cut off here.
const MAX_ANNOTATION_BYTES: usize = 10 * 1024;

/// Why a request is refused, and by whom.
struct Denial {
    by: String,
    message: String,
    reason: String,
}

/// What a request has heard so far.
#[derive(Default)]
struct Heard {
    denials: Vec<Denial>,
    warnings: Vec<String>,
    /// Of the policy that is asked; a key that is said more than once says it all.
    annotations: BTreeMap<String, Vec<String>>,
}

impl Heard {
    /// What makes a policy or a binding unusable is a refusal, unless the policy wants failures ignored.
    fn misconfigured(&mut self, bound: &Bound<ValidatingPolicy>, binding: Option<&Binding>, why: &str) {
        if bound.policy.ignores_failure {
            return;
        }
        let what = if binding.is_some() { "binding" } else { "policy" };
        let by = name(bound, binding);
        let message = format!("failed to configure {what}: {why}");
        self.denials.push(Denial { by, message, reason: String::new() });
    }
}

fn name(bound: &Bound<ValidatingPolicy>, binding: Option<&Binding>) -> String {
    let policy = format!("ValidatingAdmissionPolicy '{}'", bound.name);
    match binding {
        Some(binding) => format!("{policy} with binding '{}'", binding.name),
        None => policy,
    }
}

/// The request as each version of it looks; policies for one version share what is made for it.
#[derive(Default)]
struct Views<'v>(Vec<(&'static Resource, bool, View<'v>)>);

impl<'v> Views<'v> {
    async fn of(
        &mut self,
        server: &'v Inner,
        subject: &'v Subject<'_, '_>,
        found: &Found,
        sees_namespace: bool,
    ) -> Result<&View<'v>, ApiError> {
        let is_it = |(resource, sees, _): &(&'static Resource, bool, View<'_>)| {
            resource.same(found.resource) && (*sees || !sees_namespace)
        };
        let at = match self.0.iter().position(is_it) {
            Some(at) => at,
            None => {
                let view = server.seen(subject, found, false, sees_namespace).await?;
                self.0.push((found.resource, sees_namespace, view));
                self.0.len() - 1
            }
        };
        Ok(&self.0[at].2)
    }
}

impl Inner {
    pub(crate) async fn validate_by_policies(&self, subject: &mut Subject<'_, '_>) -> Result<(), ApiError> {
        if subject.is_exempt_from_policies() {
            return Ok(());
        }
        let (mut heard, mut views) = (Heard::default(), Views::default());
        for bound in self.policies.validating().iter() {
            match self.matched(&bound.criteria, subject).await {
                Ok(Some(found)) => self.ask_policy(bound, &found, subject, &mut views, &mut heard).await?,
                Ok(None) => {}
                Err(error) => heard.misconfigured(bound, None, error.message()),
            }
        }
        drop(views);
        subject.request.warnings.append(&mut heard.warnings);
        let Some(denial) = heard.denials.into_iter().next() else { return Ok(()) };
        let message = format!("{} denied request: {}", denial.by, denial.message);
        let reason = if denial.reason.is_empty() { "Invalid" } else { denial.reason.as_str() };
        let code = match Reason::of(reason) {
            known @ (Reason::Forbidden | Reason::Unauthorized | Reason::RequestEntityTooLarge) => known.code(),
            _ => Reason::Invalid.code(),
        };
        let error = denied(subject.request, &message).with_reason(reason).with_code(code);
        Err(error.with_cause(Cause { message, ..Cause::default() }))
    }

    async fn ask_policy<'v>(
        &'v self,
        bound: &Bound<ValidatingPolicy>,
        found: &Found,
        subject: &'v Subject<'_, '_>,
        views: &mut Views<'v>,
        heard: &mut Heard,
    ) -> Result<(), ApiError> {
        let bindings = match self.bindings(bound, subject).await {
            Ok(bindings) => bindings,
            Err(why) => {
                heard.misconfigured(bound, None, &why);
                return Ok(());
            }
        };
        for (binding, params) in bindings {
            let params = match params {
                Ok(params) => params,
                Err(why) => {
                    heard.misconfigured(bound, Some(binding), &why);
                    continue;
                }
            };
            let view = views.of(self, subject, found, bound.policy.sees_namespace).await?;
            for param in &params {
                let began = Instant::now();
                let judgement = bound.policy.judge(&view.input(&param.object));
                self.hear(bound, binding, judgement, began, heard);
            }
        }
        for (key, values) in std::mem::take(&mut heard.annotations) {
            audit::annotate(&format!("{}/{key}", bound.name), values.join(", "));
        }
        Ok(())
    }

    /// Does what the binding wants done with what its policy says.
    fn hear(
        &self,
        bound: &Bound<ValidatingPolicy>,
        binding: &Binding,
        judgement: Judgement,
        began: Instant,
        heard: &mut Heard,
    ) {
        let Judgement { decisions, annotations } = judgement;
        let took = began.elapsed() / u32::try_from(decisions.len().max(1)).unwrap_or(1);
        let observe = |decision: &Decision, action| {
            let error = decision.error_type().as_str();
            self.metrics.policies.validated(&bound.name, &binding.name, error, action, took);
        };
        for (i, decision) in decisions.into_iter().enumerate() {
            if decision.is_failed_admission() {
                observe(&decision, "allow");
            }
            if decision.verdict == Verdict::Admit {
                continue;
            }
            for action in &binding.actions {
                let (by, message) = (name(bound, Some(binding)), decision.message.clone());
                match action {
                    Action::Deny => {
                        observe(&decision, "deny");
                        heard.denials.push(Denial { by, message, reason: decision.reason.clone() });
                    }
                    Action::Warn => {
                        observe(&decision, "warn");
                        heard.warnings.push(format!("Validation failed for {by}: {message}"));
                    }
                    Action::Audit => {
                        observe(&decision, "audit");
                        log_failure(bound, binding, i, &message);
                    }
                }
            }
        }
        for one in annotations {
            match one.annotation {
                Annotation::Exclude => {}
                Annotation::Publish(mut value) => {
                    value.truncate(value.floor_char_boundary(MAX_ANNOTATION_BYTES));
                    let values = heard.annotations.entry(one.key).or_default();
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
                Annotation::Error(message) => {
                    let by = name(bound, Some(binding));
                    heard.denials.push(Denial { by, message, reason: String::new() });
                    self.metrics.policies.validated(&bound.name, &binding.name, "invalid_error", "deny", took);
                }
            }
        }
    }
}

fn log_failure(bound: &Bound<ValidatingPolicy>, binding: &Binding, index: usize, message: &str) {
    let actions: Vec<&str> = binding.actions.iter().map(|action| action.as_str()).collect();
    let failure = json!([{"message": message, "policy": bound.name, "binding": binding.name,
        "expressionIndex": index, "validationActions": actions}]);
    audit::annotate("validation.policy.admission.k8s.io/validation_failure", failure.to_string());
}
