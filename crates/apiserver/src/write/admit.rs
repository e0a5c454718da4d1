//! Admission over an object on its way: what is built in, what the cluster's users have configured, and at last what
//! takes something away that a refusal would have to give back.

use knarr_api::status::ApiError;
use serde_json::Value;

use super::Call;
use crate::{
    contract::{AdmissionRequest, Operation, Stage},
    server::Inner,
    webhook::{Form, Rounds, Subject},
};

/// What webhooks must know of a write beside the request.
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
    /// True where a webhook changed it: what the server owns has to be seen to again.
    pub by_webhook: bool,
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
        self.mutate(Stage::BuiltIn, &mut request).await?;
        let mut by_webhook = false;
        if self.webhooks.mutates() && asks_webhooks(call) {
            let mut rounds = Rounds::default();
            self.mutate_by_webhooks(&mut subject(call, way, &mut request), &mut rounds).await?;
            by_webhook = rounds.changed;
            if by_webhook {
                self.mutate(Stage::BuiltIn, &mut request).await?;
                rounds.second(&request.object);
                self.mutate_by_webhooks(&mut subject(call, way, &mut request), &mut rounds).await?;
            }
        }
        self.mutate(Stage::Last, &mut request).await?;
        warnings.append(&mut request.warnings);
        Ok(Admitted { object: request.object, by_webhook })
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
        self.validate(Stage::BuiltIn, &request).await?;
        if self.webhooks.validates() && asks_webhooks(call) {
            self.validate_by_webhooks(&mut subject(call, way, &mut request)).await?;
        }
        self.validate(Stage::Last, &request).await?;
        warnings.append(&mut request.warnings);
        Ok(request.object)
    }

    async fn mutate(&self, stage: Stage, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        for plugin in self.plugins.admission.iter().filter(|plugin| plugin.stage() == stage) {
            plugin.mutate(request).await?;
        }
        Ok(())
    }

    async fn validate(&self, stage: Stage, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        for plugin in self.plugins.admission.iter().filter(|plugin| plugin.stage() == stage) {
            plugin.validate(request).await?;
        }
        Ok(())
    }
}

/// A Binding was asked about as what it is, before it became a change of its pod.
fn asks_webhooks(call: &Call<'_>) -> bool {
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
        annotations: Vec::new(),
    }
}
