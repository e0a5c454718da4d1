//! Custom resources whose versions a webhook converts: ConversionReview, `apiextensions.k8s.io/v1`, and `v1beta1` for
//! those that know nothing newer. All objects of a list are converted by one request.
//!
//! An object carries the version that it is in, so that what is there already is never sent.

use std::{sync::Arc, time::Duration};

use knarr_api::{
    custom::{Conversion, Definition},
    field::FieldPath,
    meta,
    registry::Resource,
    status::{ApiError, Reason},
};
use serde_json::{Map, Value, json};

use super::{configuration::ReviewVersion, target::Target};
use crate::{contract::Stored, convert, custom::Custom, json::text, server::Inner};

const GROUP: &str = "apiextensions.k8s.io";
/// Upstream's, which nobody can configure.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What an answer may be longer than what it answers to: conversion renames and moves, and adds little.
const LONGER_BY_FACTOR: usize = 4;
const LONGER_BY_BYTES: usize = 16 << 20;

/// The webhook of a definition, with its connections.
#[derive(Debug)]
pub(crate) struct Converter {
    target: Result<Target, String>,
    version: Option<ReviewVersion>,
}

impl Converter {
    /// `None` where versions differ in nothing but `apiVersion`.
    pub fn of(definition: &Definition) -> Option<Self> {
        match &definition.conversion {
            Conversion::None => None,
            Conversion::Webhook { client, review_versions } => Some(Self {
                target: Target::parse(client),
                version: ReviewVersion::preferred(review_versions.iter().map(String::as_str)),
            }),
        }
    }
}

/// As upstream answers what it cannot decode or encode: 500, and a message without a reason.
fn failed(why: String) -> ApiError {
    ApiError::new(Reason::Unknown, why)
}

fn kind(object: &Value) -> String {
    format!("{}, Kind={}", text(&object["apiVersion"]), text(&object["kind"]))
}

impl Inner {
    /// One object in the version of a row.
    pub(crate) async fn convert_one(
        &self,
        custom: &Custom,
        to: &'static Resource,
        object: Value,
    ) -> Result<Value, ApiError> {
        let converted = self.convert_to(custom, &to.api_version(), vec![object]).await?;
        Ok(converted.into_iter().next().unwrap_or_default())
    }

    /// Objects in a version, in the same order.
    pub(crate) async fn convert_to(
        &self,
        custom: &Custom,
        api_version: &str,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>, ApiError> {
        let Some(converter) = &custom.converter else {
            for object in objects.iter_mut().filter_map(Value::as_object_mut) {
                object.insert("apiVersion".into(), api_version.into());
            }
            return Ok(objects);
        };
        let others: Vec<usize> = (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != api_version).collect();
        let Some(first) = others.first() else { return Ok(objects) };
        let kind = kind(&objects[*first]);
        let sent: Vec<&Value> = others.iter().map(|at| &objects[*at]).collect();
        let converted = self
            .ask_converter(converter, api_version, &sent)
            .await
            .map_err(|why| failed(format!("conversion webhook for {kind} failed: {why}")))?;
        if converted.len() != others.len() {
            let (got, expected) = (converted.len(), others.len());
            return Err(failed(format!("conversion webhook for {kind} returned {got} objects, expected {expected}")));
        }
        for (index, (at, converted)) in others.into_iter().zip(converted).enumerate() {
            let checked = accept(&objects[at], converted, api_version, index);
            objects[at] = checked.map_err(|why| failed(format!("conversion webhook for {kind} returned {why}")))?;
        }
        Ok(objects)
    }

    async fn ask_converter(
        &self,
        converter: &Converter,
        api_version: &str,
        objects: &[&Value],
    ) -> Result<Vec<Value>, String> {
        let target = converter.target.as_ref().map_err(String::clone)?;
        let version = converter.version.ok_or("no supported conversion review versions")?;
        let uid = self.webhooks.client.uid();
        let form = format!("{GROUP}/{}", version.as_str());
        let review = json!({"kind": "ConversionReview", "apiVersion": form,
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects}});
        let body = review.to_string();
        let limit = body.len() * LONGER_BY_FACTOR + LONGER_BY_BYTES;
        let answer = self.webhooks.client.post(target, body.into(), TIMEOUT, limit).await;
        let answer: Value = serde_json::from_slice(&answer.map_err(|failure| failure.why)?)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
        read(answer, version, &form, &uid)
    }

    /// Objects as a version shows them.
    pub(crate) async fn in_versions(
        &self,
        resource: &'static Resource,
        custom: Option<&Custom>,
        all: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        let Some(custom) = custom.filter(|custom| custom.converter.is_some()) else {
            return Ok(all.into_iter().map(|stored| convert::served(resource, custom, stored)).collect());
        };
        let mut shown: Vec<Option<Arc<Stored>>> = Vec::with_capacity(all.len());
        for stored in &all {
            let kept = stored.shown.get(&custom.definition, resource.version);
            shown.push(kept.map(|kept| kept.unwrap_or_else(|| stored.clone())));
        }
        let missing: Vec<usize> = (0..all.len()).filter(|at| shown[*at].is_none()).collect();
        let values = missing.iter().map(|at| all[*at].value()).collect();
        let values = self.convert_to(custom, &resource.api_version(), values).await?;
        for (at, value) in missing.into_iter().zip(values) {
            shown[at] = Some(convert::keep_converted(resource, custom, &all[at], value));
        }
        Ok(shown.into_iter().flatten().collect())
    }
}

/// The objects of an answer, or what is wrong with it.
fn read(mut review: Value, version: ReviewVersion, form: &str, uid: &str) -> Result<Vec<Value>, String> {
    let (sent_form, sent_kind) = (text(&review["apiVersion"]), text(&review["kind"]));
    if version == ReviewVersion::V1 && (sent_form, sent_kind) != (form, "ConversionReview") {
        return Err(format!(
            "expected webhook response of {form}, Kind=ConversionReview, got {sent_form}, Kind={sent_kind}"
        ));
    }
    let response = &mut review["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let sent_uid = text(&response["uid"]);
    if version == ReviewVersion::V1 && sent_uid != uid {
        return Err(format!("expected response.uid={uid:?}, got {sent_uid:?}"));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(match text(&result["message"]) {
            "" => format!("response.result.status was '{}', not 'Success'", text(&result["status"])),
            message => message.to_owned(),
        });
    }
    Ok(match response["convertedObjects"].take() {
        Value::Array(objects) => objects,
        _ => Vec::new(),
    })
}

/// A converted object must be the same one; of its metadata only labels and annotations are taken.
fn accept(original: &Value, mut converted: Value, api_version: &str, index: usize) -> Result<Value, String> {
    let invalid = |why: String| format!("invalid converted object at index {index}: {why}");
    let got = text(&converted["apiVersion"]);
    if got != api_version {
        return Err(invalid(format!("invalid groupVersion (expected {api_version}, received {got})")));
    }
    if original["kind"] != converted["kind"] {
        let (expected, got) = (text(&original["kind"]), text(&converted["kind"]));
        return Err(invalid(format!("invalid kind (expected {expected}, received {got})")));
    }
    for (what, key) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (expected, got) = (text(&original["metadata"][key]), text(&converted["metadata"][key]));
        if expected != got {
            return Err(invalid(format!("must have the same {what}: {expected} != {got}")));
        }
    }
    let metadata = restored(&original["metadata"], &converted["metadata"])
        .map_err(|why| format!("invalid metadata in object at index {index}: {why}"))?;
    converted["metadata"] = Value::Object(metadata);
    Ok(converted)
}

fn restored(original: &Value, converted: &Value) -> Result<Map<String, Value>, String> {
    if converted.is_null() {
        return Err("missing metadata in converted object".into());
    }
    let mut metadata = original.as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match &converted[field] {
            Value::Null => {
                metadata.remove(field);
            }
            Value::Object(values) => {
                if let Some((key, _)) = values.iter().find(|(_, value)| !value.is_string()) {
                    return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
                }
                if metadata.get(field) != Some(&converted[field]) {
                    check(field, &converted[field])?;
                }
                metadata.insert(field.into(), converted[field].clone());
            }
            _ => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    Ok(metadata)
}

fn check(field: &str, values: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    meta::validate_template(&json!({field: values}), &FieldPath::new("metadata"), &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.to_string()),
        many => {
            let all: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(format!("[{}]", all.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, name: &str) -> Value {
        json!({"apiVersion": format!("e.io/{version}"), "kind": "K",
            "metadata": {"name": name, "uid": "u", "labels": {"a": "b"}, "finalizers": ["f"]}})
    }

    #[test]
    fn a_converted_object_is_the_same_one() {
        let original = object("v1", "o");
        let with = |path: &str, value: Value| {
            let mut converted = object("v2", "o");
            *converted.pointer_mut(path).unwrap() = value;
            converted
        };
        let invalid = "invalid converted object at index 3:";
        for (converted, expected) in [
            (object("v1", "o"), format!("{invalid} invalid groupVersion (expected e.io/v2, received e.io/v1)")),
            (object("v2", "x"), format!("{invalid} must have the same name: o != x")),
            (with("/kind", json!("L")), format!("{invalid} invalid kind (expected K, received L)")),
            (with("/metadata/uid", json!("v")), format!("{invalid} must have the same UID: u != v")),
            (
                with("/metadata/labels", json!({"a": 1})),
                "invalid metadata in object at index 3: metadata.labels[a] must be a string in converted object".into(),
            ),
        ] {
            assert_eq!(accept(&original, converted, "e.io/v2", 3).unwrap_err(), expected);
        }
        let wrong = accept(&original, with("/metadata/labels", json!({"a b": "c"})), "e.io/v2", 0).unwrap_err();
        assert!(wrong.starts_with("invalid metadata in object at index 0: metadata.labels: Invalid value"), "{wrong}");
    }

    #[test]
    fn metadata_comes_back_but_for_labels_and_annotations() {
        let mut converted = object("v2", "o");
        converted["metadata"] = json!({"name": "o", "uid": "u", "labels": {"c": "d"}, "finalizers": []});
        let accepted = accept(&object("v1", "o"), converted, "e.io/v2", 0).unwrap();
        let expected = json!({"name": "o", "uid": "u", "labels": {"c": "d"}, "finalizers": ["f"]});
        assert_eq!(accepted["metadata"], expected);
    }

    #[test]
    fn answers_are_read_as_upstream_reads_them() {
        let form = "apiextensions.k8s.io/v1";
        let review = |response: Value| json!({"apiVersion": form, "kind": "ConversionReview", "response": response});
        for (answer, expected) in [
            (
                json!({"kind": "X"}),
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind=X",
            ),
            (review(json!(null)), "no response provided"),
            (review(json!({"uid": "v"})), "expected response.uid=\"u\", got \"v\""),
            (review(json!({"uid": "u"})), "response.result.status was '', not 'Success'"),
            (review(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})), "no"),
        ] {
            assert_eq!(read(answer, ReviewVersion::V1, form, "u").unwrap_err(), expected);
        }
        let fine = review(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}));
        assert_eq!(read(fine, ReviewVersion::V1, form, "u").unwrap(), [json!({})]);
    }
}
