//! Configuration, service accounts, and what no other file knows.

use serde_json::{Map, Value};

use super::{Page, show};
use crate::{
    cx::{Cx, dig, dig_str, items},
    error::Result,
};

pub fn config_map(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    page.line(0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        page.line(0, format_args!("{key}:\n----\n{}\n", show(value)));
    }
    page.line(0, "\nBinaryData\n====");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        page.line(0, format_args!("{key}: {} bytes", decoded_length(value)));
    }
    page.line(0, "");
}

fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.chars().rev().take_while(|c| *c == '=').count()
}

pub fn secret(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    page.line(0, format_args!("\nType:\t{}", dig_str(object, "type")));
    page.line(0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        page.field(0, key, format_args!("{} bytes", decoded_length(value)));
    }
}

pub async fn service_account(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    page.labels_and_annotations(object);
    let names = |field: &str| items(&object[field]).map(|entry| dig_str(entry, "name").to_owned()).collect::<Vec<_>>();
    let path = format!("/api/v1/namespaces/{}/secrets", dig_str(object, "metadata.namespace"));
    let list = cx.api().await?.get(&path).await?;
    let tokens: Vec<String> = items(&list["items"])
        .filter(|secret| secret["type"] == "kubernetes.io/service-account-token")
        .filter(|secret| {
            dig(secret, "metadata.annotations")["kubernetes.io/service-account.name"]
                == dig_str(object, "metadata.name")
        })
        .map(|secret| dig_str(secret, "metadata.name").to_owned())
        .collect();
    page.list(0, "Image pull secrets", &names("imagePullSecrets"));
    for (label, list) in [("Mountable secrets", names("secrets")), ("Tokens", tokens)] {
        if !list.is_empty() {
            page.list(0, label, &list);
        }
    }
    Ok(())
}

/// Whatever the object says, field by field.
pub fn anything(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["annotations", "managedFields", "name", "namespace", "labels"] {
            metadata.remove(field);
        }
    }
    if let Some(map) = object.as_object() {
        content(page, 0, map);
    }
}

fn content(page: &mut Page, level: usize, map: &Map<String, Value>) {
    for (field, value) in map {
        let label = words(field);
        match value {
            Value::Object(inner) => {
                page.line(level, format_args!("{label}:"));
                content(page, level + 1, inner);
            }
            Value::Array(list) => {
                page.line(level, format_args!("{label}:"));
                for item in list {
                    match item {
                        Value::Object(inner) => content(page, level + 1, inner),
                        other => page.line(level + 1, crate::output::template::shown(other)),
                    }
                }
            }
            other => page.field(level, &label, crate::output::template::shown(other)),
        }
    }
}

/// `creationTimestamp` becomes `Creation Timestamp`, `apiVersion` `API Version`.
fn words(field: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let chars: Vec<char> = field.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        let begins = c.is_uppercase()
            && (at == 0 || !chars[at - 1].is_uppercase() || chars.get(at + 1).is_some_and(|n| n.is_lowercase()));
        if parts.is_empty() || begins {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let shown = |part: &String| {
        let upper = part.to_uppercase();
        match upper.as_str() {
            "API" | "URL" | "UID" | "OSB" | "GUID" => upper,
            _ => upper.chars().take(1).chain(part.chars().skip(1)).collect(),
        }
    };
    parts.iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_become_words() {
        for (field, expected) in [
            ("creationTimestamp", "Creation Timestamp"),
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("kind", "Kind"),
        ] {
            assert_eq!(words(field), expected);
        }
    }
}
