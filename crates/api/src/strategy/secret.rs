//! Secrets: their types, and `stringData`, which is folded into `data`.
//! (<https://kubernetes.io/docs/concepts/configuration/secret/#secret-types>)

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    check,
    core::{LARGEST_DATA_BYTES, sealed},
    rules::{Errors, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    value::{entries, is_empty, object_at, set_default, text},
};

pub(super) static SECRET: Rules = Rules {
    default: |object| {
        let Some(object) = object.as_object_mut() else { return };
        set_default(object, "type", "Opaque");
        if let Some(Value::Object(plain)) = object.remove("stringData")
            && !plain.is_empty()
            && let Some(data) = object_at(object, "data")
        {
            data.extend(plain.into_iter().map(|(key, value)| (key, STANDARD.encode(text(&value)).into())));
        }
    },
    validate,
    validate_update: |new, old, _, errors| {
        check::immutable(&new["type"], &old["type"], &FieldPath::new("type"), errors);
        sealed(new, old, &["data"], errors);
    },
    fields: &["type"],
    ..Rules::DATA
};

const DATA: FieldPath<'static> = FieldPath::new("data");

fn validate(secret: &Value, errors: &mut Errors) {
    let data = &secret["data"];
    let mut size = 0;
    for (key, value) in entries(data) {
        check::faults(names::config_key(key), key, &DATA.key(key), errors);
        match STANDARD.decode(text(value)) {
            Ok(bytes) => size += bytes.len(),
            Err(_) => {
                let why = "must be base64 as in RFC 4648 (put plain text under stringData)";
                errors.push(FieldError::invalid(&DATA.key(key), "<secret contents redacted>", why));
            }
        }
    }
    if size > LARGEST_DATA_BYTES {
        errors.push(FieldError::too_long(&DATA, LARGEST_DATA_BYTES));
    }
    match text(&secret["type"]) {
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            let path = FieldPath::new("metadata");
            let path = path.child("annotations");
            check::required(&secret["metadata"]["annotations"][annotation], &path.key(annotation), errors);
        }
        "kubernetes.io/dockercfg" => json_at(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_at(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            errors.push(FieldError::required(&DATA.key("username"), ""));
            errors.push(FieldError::required(&DATA.key("password"), ""));
        }
        "kubernetes.io/ssh-auth" if is_empty(&data["ssh-privatekey"]) => {
            errors.push(FieldError::required(&DATA.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if data.get(key).is_none() {
                    errors.push(FieldError::required(&DATA.key(key), ""));
                }
            }
        }
        _ => {}
    }
}

fn json_at(data: &Value, key: &str, errors: &mut Errors) {
    let Some(value) = data.get(key) else {
        errors.push(FieldError::required(&DATA.key(key), ""));
        return;
    };
    let bytes = STANDARD.decode(text(value)).unwrap_or_default();
    if let Err(why) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        errors.push(FieldError::invalid(&DATA.key(key), "<secret contents redacted>", why.to_string()));
    }
}
