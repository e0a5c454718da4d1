//! MutatingAdmissionPolicy: one after the other, each sees what those before it made of the object.

use knarr_api::{
    policy::MutatingPolicy,
    schema::{self, TypeRef},
    status::{ApiError, Cause},
};
use tokio::time::Instant;

use super::configuration::{Binding, Bound};
use super::params::Param;
use crate::{
    admission::denied,
    contract::Operation,
    custom::Found,
    matching::{Form, Key, Rounds, Subject, check_type, kind},
    server::Inner,
    write::{Validation, rules},
};

/// Why a request is refused, whether an expression failed, and who failed.
struct Failure {
    by: String,
    why: String,
    is_invalid: bool,
}

/// One binding of a policy that is for a request.
struct Invocation<'p> {
    bound: &'p Bound<MutatingPolicy>,
    binding: &'p Binding,
    found: Found,
    param: Param,
}

impl Invocation<'_> {
    fn key(&self) -> Key {
        (self.bound.name.clone(), self.binding.name.clone(), self.param.key.clone())
    }
}

fn name(bound: &Bound<MutatingPolicy>, binding: Option<&Binding>) -> String {
    match binding {
        Some(binding) => format!("policy '{}' with binding '{}'", bound.name, binding.name),
        None => format!("policy {:?}", bound.name),
    }
}

fn misconfigured(bound: &Bound<MutatingPolicy>, binding: Option<&Binding>, why: &str, failures: &mut Vec<Failure>) {
    if !bound.policy.ignores_failure {
        let what = if binding.is_some() { "binding" } else { "policy" };
        let why = format!("failed to configure {what}: {why}");
        failures.push(Failure { by: name(bound, binding), why, is_invalid: false });
    }
}

impl Inner {
    /// One round of all policies.
    pub(crate) async fn mutate_by_policies(
        &self,
        subject: &mut Subject<'_, '_>,
        rounds: &mut Rounds,
    ) -> Result<(), ApiError> {
        if subject.is_exempt_from_policies() || subject.request.operation == Operation::Delete {
            return Ok(());
        }
        let all = self.policies.mutating();
        let mut failures = Vec::new();
        // What a policy is for is decided before any of them changes the object.
        let mut invocations = Vec::new();
        for bound in all.iter() {
            self.invocations(bound, subject, &mut invocations, &mut failures).await;
        }
        for invocation in &invocations {
            if let Err(why) = self.invoke(invocation, subject, rounds).await?
                && !invocation.bound.policy.ignores_failure
            {
                let by = name(invocation.bound, Some(invocation.binding));
                failures.push(Failure { by, why, is_invalid: true });
            }
        }
        rounds.leave(&subject.request.object);
        let mut messages = Vec::with_capacity(failures.len());
        for failure in &failures {
            messages.push(format!("{} denied request: {}", failure.by, failure.why));
        }
        let (Some(first), Some(message)) = (failures.first(), messages.first()) else { return Ok(()) };
        let mut error = denied(subject.request, "").with_message(message);
        if first.is_invalid {
            // The code stays that of a refusal, as upstream has it.
            let code = error.code();
            error = error.with_reason("Invalid").with_code(code);
        }
        for message in messages {
            error = error.with_cause(Cause { message, ..Cause::default() });
        }
        Err(error)
    }

    async fn invocations<'p>(
        &self,
        bound: &'p Bound<MutatingPolicy>,
        subject: &Subject<'_, '_>,
        invocations: &mut Vec<Invocation<'p>>,
        failures: &mut Vec<Failure>,
    ) {
        let found = match self.matched(&bound.criteria, subject).await {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => return misconfigured(bound, None, error.message(), failures),
        };
        let bindings = match self.bindings(bound, subject).await {
            Ok(bindings) => bindings,
            Err(why) => return misconfigured(bound, None, &why, failures),
        };
        for (binding, params) in bindings {
            match params {
                Ok(params) => invocations.extend(params.into_iter().map(|param| Invocation {
                    bound,
                    binding,
                    found: found.clone(),
                    param,
                })),
                Err(why) => misconfigured(bound, Some(binding), &why, failures),
            }
        }
    }

    /// The inner error is the policy's: its failure policy says what comes of it.
    async fn invoke(
        &self,
        invocation: &Invocation<'_>,
        subject: &mut Subject<'_, '_>,
        rounds: &mut Rounds,
    ) -> Result<Result<(), String>, ApiError> {
        let Invocation { bound, binding, found, param } = invocation;
        let policy = &bound.policy;
        let sees_namespace = policy.sees_namespace;
        {
            let view = self.seen(subject, found, true, sees_namespace).await?;
            match policy.conditions.matches(&view.input(&param.object)).matches {
                Ok(true) => {}
                Ok(false) => return Ok(Ok(())),
                Err(why) => return Ok(Err(why)),
            }
        }
        if !rounds.has_turn(&invocation.key()) {
            return Ok(Ok(()));
        }
        let mut result = Ok(());
        for at in 0..policy.mutations() {
            if subject.request.object.is_null() {
                break;
            }
            let began = Instant::now();
            let made = {
                let view = self.seen(subject, found, true, sees_namespace).await?;
                let made = with_schema(found, subject, |schema| policy.mutate(at, &view.input(&param.object), schema));
                made.map(|made| (made != *view.object).then_some(made))
            };
            let error = made.as_ref().err().map_or("no_error", |why| error_type(why));
            self.metrics.policies.mutated(&bound.name, &binding.name, error, began.elapsed());
            match made {
                Ok(None) => {}
                Ok(Some(mut made)) => {
                    check_type(subject, found, &mut made, Validation::Strict)?;
                    self.take_back(subject, found, made).await?;
                    default(subject);
                    rounds.change();
                }
                Err(why) => result = result.and(Err(why)),
            }
        }
        if policy.reinvoked {
            rounds.wants_again(invocation.key());
        }
        Ok(result)
    }
}

fn error_type(why: &str) -> &'static str {
    match why {
        why if why.starts_with("compilation") => "compile_error",
        why if why.starts_with("validation failed due to running out of cost budget") => "out_of_budget",
        _ => "invalid_error",
    }
}

/// What a change left out is filled in before the next one looks.
fn default(subject: &mut Subject<'_, '_>) {
    if subject.is_foreign() || subject.form == Form::Scale {
        return;
    }
    let resource = subject.request.resource.stored_as();
    match subject.custom {
        Some(custom) => knarr_api::strategy::Strategy::default(custom, &mut subject.request.object),
        None => rules(resource).default(&mut subject.request.object),
    }
}

/// With the schema of the objects that a policy sees.
fn with_schema<T>(found: &Found, subject: &Subject<'_, '_>, then: impl FnOnce(Option<TypeRef<'_>>) -> T) -> T {
    let (group, version, kind) = kind(found.resource, subject.subresource());
    match &found.custom {
        Some(custom) if (group, version, kind) == found.resource.gvk() => then(custom.version().schema()),
        _ => then(schema::of(group, version, kind)),
    }
}
