//! What an admission webhook is sent, and how its answer is read: AdmissionReview, `admission.k8s.io/v1`, and `v1beta1`
//! for those that know nothing newer.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    configuration::{Hook, ReviewVersion},
    error::CallError,
    invocation::Invocation,
};
use crate::{
    audit,
    json::{items, text},
    matching::{Subject, describe},
};

const GROUP: &str = "admission.k8s.io";

/// An answer that makes sense.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub allowed: bool,
    /// The operations of a JSON patch; empty where nothing is to change.
    pub patch: Vec<Value>,
    pub warnings: Vec<String>,
    pub annotations: Vec<(String, String)>,
    /// Why not, as a Status.
    pub result: Value,
}

impl Answer {
    /// Tells the audit log what the webhook has to say to it.
    pub fn publish(&self) {
        for (key, value) in &self.annotations {
            audit::annotate(key, value.as_str());
        }
    }
}

/// The review that is sent; `object` and `old` are in the version of the invocation.
pub(super) fn request(
    subject: &Subject<'_, '_>,
    invocation: &Invocation,
    version: ReviewVersion,
    uid: &str,
    object: Value,
    old: Value,
) -> Value {
    let mut members = describe(subject, &invocation.found);
    members["uid"] = uid.into();
    members["object"] = object;
    members["oldObject"] = old;
    json!({"kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{}", version.as_str()), "request": members})
}

/// Reads an answer as upstream verifies it.
pub(super) fn answer(
    hook: &Hook,
    version: ReviewVersion,
    uid: &str,
    body: &[u8],
    is_mutating: bool,
) -> Result<Answer, CallError> {
    let calling = |why: String| CallError::Calling { why: format!("failed to call webhook: {why}"), code: 503 };
    let review: Value = serde_json::from_slice(body)
        .map_err(|error| calling(format!("couldn't get version/kind; json parse error: {error}")))?;
    let response = &review["response"];
    if !response.is_object() {
        return Err(CallError::invalid_response("webhook response was absent"));
    }
    if version == ReviewVersion::V1 {
        let sent = text(&response["uid"]);
        if sent != uid {
            return Err(CallError::invalid_response(format_args!("expected response.uid={uid:?}, got {sent:?}")));
        }
        let (group, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
        let expected = format!("{GROUP}/v1");
        if (group, kind) != (expected.as_str(), "AdmissionReview") {
            let why =
                format!("expected webhook response of {expected}, Kind=AdmissionReview, got {group}, Kind={kind}");
            return Err(CallError::invalid_response(why));
        }
    }
    let patch = patch(response, version, is_mutating)?;
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let annotations = annotations.map(|(key, value)| (format!("{}/{key}", hook.name), text(value).to_owned()));
    Ok(Answer {
        allowed: response["allowed"] == true,
        patch,
        warnings: items(&response["warnings"]).iter().map(|warning| text(warning).to_owned()).collect(),
        annotations: annotations.collect(),
        result: response["status"].clone(),
    })
}

fn patch(response: &Value, version: ReviewVersion, is_mutating: bool) -> Result<Vec<Value>, CallError> {
    let invalid = |why: &str| Err(CallError::invalid_response(why));
    let (encoded, kind) = (text(&response["patch"]), response["patchType"].as_str());
    if !is_mutating {
        return match (version, encoded, kind) {
            (ReviewVersion::V1, "", Some(_)) => invalid("validating webhook may not return response.patchType"),
            (ReviewVersion::V1, "", None) | (ReviewVersion::V1beta1, ..) => Ok(Vec::new()),
            (ReviewVersion::V1, ..) => invalid("validating webhook may not return response.patch"),
        };
    }
    match (version, encoded, kind) {
        (_, "", None) | (ReviewVersion::V1beta1, "", Some(_)) => return Ok(Vec::new()),
        (ReviewVersion::V1, "", Some(_)) => {
            return invalid("webhook returned response.patchType but not response.patch");
        }
        (ReviewVersion::V1, _, None) => return invalid("webhook returned response.patch but not response.patchType"),
        (ReviewVersion::V1, _, Some("")) => return invalid("webhook returned invalid response.patchType of \"\""),
        (ReviewVersion::V1, _, Some(other)) if other != "JSONPatch" => {
            return Err(CallError::Calling { why: format!("unsupported patch type {other:?}"), code: 503 });
        }
        _ => {}
    }
    let undecodable = |why: String| CallError::Calling {
        why: format!("received undecodable patch in webhook response: {why}"),
        code: 503,
    };
    let bytes = STANDARD.decode(encoded).map_err(|error| undecodable(error.to_string()))?;
    match serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))? {
        Value::Array(operations) => Ok(operations),
        Value::Null => Ok(Vec::new()),
        _ => Err(undecodable("a JSON patch is a list of operations".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook() -> Hook {
        Hook::parse("c", &json!({"name": "a.b.c"}))
    }

    fn read(response: Value, is_mutating: bool) -> Result<Answer, String> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        answer(&hook(), ReviewVersion::V1, "u", review.to_string().as_bytes(), is_mutating)
            .map_err(|error| error.into_api("a.b.c").message().to_owned())
    }

    #[test]
    fn answers_are_verified_in_upstreams_words() {
        let patch = STANDARD.encode("[{\"op\": \"remove\", \"path\": \"/a\"}]");
        for (response, is_mutating, expected) in [
            (json!(null), true, "webhook response was absent"),
            (json!({"uid": "other"}), true, "expected response.uid=\"u\", got \"other\""),
            (json!({"uid": "u", "patch": patch}), true, "webhook returned response.patch but not response.patchType"),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
            (
                json!({"uid": "u", "patchType": "", "patch": patch}),
                true,
                "webhook returned invalid response.patchType of \"\"",
            ),
            (json!({"uid": "u", "patch": patch}), false, "validating webhook may not return response.patch"),
            (json!({"uid": "u", "patchType": "x"}), false, "validating webhook may not return response.patchType"),
        ] {
            let prefix =
                "Internal error occurred: failed calling webhook \"a.b.c\": received invalid webhook response: ";
            assert_eq!(read(response, is_mutating).unwrap_err(), format!("{prefix}{expected}"));
        }
        let kind = json!({"apiVersion": "admission.k8s.io/v1", "kind": "Other", "response": {"uid": "u"}}).to_string();
        let refused = answer(&hook(), ReviewVersion::V1, "u", kind.as_bytes(), true).unwrap_err();
        assert!(refused.into_api("a.b.c").message().ends_with(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1, Kind=Other"
        ));
        let read = read(json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": patch}), true).unwrap();
        assert!(read.allowed);
        assert_eq!(read.patch, [json!({"op": "remove", "path": "/a"})]);
    }

    #[test]
    fn old_reviews_are_read_as_loosely_as_upstream_does() {
        let review = json!({"response": {"allowed": true, "patch": STANDARD.encode("[]")}}).to_string();
        let read = answer(&hook(), ReviewVersion::V1beta1, "u", review.as_bytes(), true).unwrap();
        assert!(read.allowed && read.patch.is_empty());
    }
}
