//! `spec.conversion`, under the names of upstream's internal form.

use serde_json::Value;

use super::SPEC;
use crate::{
    field::{FieldError, FieldPath},
    strategy::{check as checks, rules::Errors, webhooks},
    value::{is_empty, is_set, items},
};

pub(super) fn check(conversion: &Value, errors: &mut Errors) {
    if conversion.is_null() {
        return;
    }
    let path = SPEC.child("conversion");
    checks::one_of(&conversion["strategy"], &["None", "Webhook"], &path.child("strategy"), errors);
    let webhook = &conversion["webhook"];
    let (config, versions) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if conversion["strategy"] == "Webhook" {
        if is_set(&webhook["clientConfig"]) {
            webhooks::client(&webhook["clientConfig"], &config, errors);
        } else {
            errors.push(FieldError::required(&config, "required when strategy is set to Webhook"));
        }
        review_versions(&webhook["conversionReviewVersions"], &versions, errors);
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    if is_set(&webhook["clientConfig"]) {
        errors.push(FieldError::forbidden(&config, why));
    }
    if !is_empty(&webhook["conversionReviewVersions"]) {
        errors.push(FieldError::forbidden(&versions, why));
    }
}

fn review_versions(versions: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if items(versions).is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    webhooks::known_versions(versions, path, errors);
}
