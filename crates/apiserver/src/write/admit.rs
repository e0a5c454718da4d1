//! Admission over an object on its way: what is built in, what the cluster's users have configured, and at last what
//! takes something away that a refusal would have to give back.

use knarr_api::status::ApiError;
use serde_json::Value;

use super::Call;
use crate::{
    contract::{AdmissionRequest, Operation, Stage},
    matching::{Form, Rounds, Subject},
    server::Inner,
};

/// What policies and webhooks must know of a write beside the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub form: Form,
    pub is_name_generated: bool,
}

impl Way {
    pub const PLAIN: Self = Self { form: Form::Own, is_name_generated: false };
}

/// What admission made of an object.
pub(super) struct Admitted {
    pub object: Value,
    /// True where a policy or a webhook changed it: what the server owns has to be seen to again.
    pub by_users: bool,
}

/// The rounds of all that change objects.
#[derive(Default)]
pub(crate) struct Turns {
    policies: Rounds,
    webhooks: Rounds,
}

impl Turns {
    pub fn changed(&self) -> bool {
        self.policies.changed || self.webhooks.changed
    }

    pub fn second(&mut self, object: &Value) {
        self.policies.second(object);
        self.webhooks.second(object);
    }
}

impl Inner {
    /// The half that changes the object.
    pub(super) async fn admit_mutating(
        &self,
        call: &Call<'_>,
        way: Way,
        operation: Operation,
        object: Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Admitted, ApiError> {
        let mut request = admission_request(call, operation, object, old);
        let by_users = self.change(call, way, &mut request).await;
        warnings.append(&mut request.warnings);
        Ok(Admitted { by_users: by_users?, object: request.object })
    }

    /// True where users had it changed.
    async fn change(&self, call: &Call<'_>, way: Way, request: &mut AdmissionRequest<'_>) -> Result<bool, ApiError> {
        self.mutate(Stage::BuiltIn, request).await?;
        let mut turns = Turns::default();
        if asks_users(call) {
            self.mutate_by_users(&mut subject(call, way, request), &mut turns).await?;
            if turns.changed() {
                self.mutate(Stage::BuiltIn, request).await?;
                turns.second(&request.object);
                self.mutate_by_users(&mut subject(call, way, request), &mut turns).await?;
            }
        }
        self.mutate(Stage::Last, request).await?;
        Ok(turns.changed())
    }

    /// The half that says yes or no.
    pub(super) async fn admit_validating(
        &self,
        call: &Call<'_>,
        way: Way,
        operation: Operation,
        object: Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Value, ApiError> {
        let mut request = admission_request(call, operation, object, old);
        let verdict = self.judge(call, way, &mut request).await;
        warnings.append(&mut request.warnings);
        verdict.map(|()| request.object)
    }

    async fn judge(&self, call: &Call<'_>, way: Way, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        self.may_name_parameters(request).await?;
        self.validate(Stage::BuiltIn, request).await?;
        if asks_users(call) {
            self.validate_by_users(&mut subject(call, way, request)).await?;
        }
        self.validate(Stage::Last, request).await
    }

    /// One round of what the cluster's users have configured to change objects: policies come before webhooks.
    pub(crate) async fn mutate_by_users(
        &self,
        subject: &mut Subject<'_, '_>,
        turns: &mut Turns,
    ) -> Result<(), ApiError> {
        if self.policies.mutates() {
            self.mutate_by_policies(subject, &mut turns.policies).await?;
        }
        if self.webhooks.mutates() {
            self.mutate_by_webhooks(subject, &mut turns.webhooks).await?;
        }
        Ok(())
    }

    pub(crate) async fn validate_by_users(&self, subject: &mut Subject<'_, '_>) -> Result<(), ApiError> {
        if self.policies.validates() {
            self.validate_by_policies(subject).await?;
        }
        if self.webhooks.validates() {
            self.validate_by_webhooks(subject).await?;
        }
        Ok(())
    }

    async fn mutate(&self, stage: Stage, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        for plugin in self.plugins.admission.iter().filter(|plugin| plugin.stage() == stage) {
            plugin.mutate(request).await?;
        }
        Ok(())
    }

    async fn validate(&self, stage: Stage, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        for plugin in self.plugins.admission.iter().filter(|plugin| plugin.stage() == stage) {
            plugin.validate(request).await?;
            let mut remarks = plugin.remarks(request);
            request.warnings.append(&mut remarks);
        }
        Ok(())
    }
}

/// A Binding was asked about as what it is, before it became a change of its pod.
fn asks_users(call: &Call<'_>) -> bool {
    call.subresource != "binding"
}

fn subject<'s, 'r>(call: &Call<'s>, way: Way, request: &'s mut AdmissionRequest<'r>) -> Subject<'s, 'r> {
    Subject { request, custom: call.custom, form: way.form, is_name_generated: way.is_name_generated }
}

fn admission_request<'a>(
    call: &'a Call<'_>,
    operation: Operation,
    object: Value,
    old: Option<&'a Value>,
) -> AdmissionRequest<'a> {
    AdmissionRequest {
        operation,
        resource: call.resource,
        subresource: call.subresource,
        namespace: call.namespace,
        name: call.name,
        user: call.user,
        dry_run: call.options.dry_run,
        object,
        old,
        options: &call.options.raw,
        warnings: Vec::new(),
    }
}
