//! What must hold of every single change, whoever makes it and whatever breaks meanwhile. Pure.

use serde_json::Value;

/// Says which law a change of one object breaks.
pub fn of_change(key: &str, before: Option<&Value>, after: Option<&Value>) -> Option<String> {
    let after = after?;
    let Some(before) = before else { return of_birth(after) };
    let metadata = |field: &str| (&before["metadata"][field], &after["metadata"][field]);
    for field in ["uid", "name", "namespace", "creationTimestamp"] {
        let (old, new) = metadata(field);
        if old != new {
            return Some(format!("metadata.{field} changed from {old} to {new}"));
        }
    }
    let (old, new) = metadata("generation");
    if new.as_i64().unwrap_or(0) < old.as_i64().unwrap_or(0) {
        return Some(format!("metadata.generation went from {old} back to {new}"));
    }
    let (old, new) = metadata("deletionTimestamp");
    if !old.is_null() && new.is_null() {
        return Some("came back from its deletion".into());
    }
    if key.starts_with("pods/") { of_pod(before, after) } else { None }
}

fn of_birth(object: &Value) -> Option<String> {
    let missing = ["uid", "name", "creationTimestamp"].into_iter().find(|field| object["metadata"][*field].is_null());
    missing.map(|field| format!("was stored without metadata.{field}"))
}

fn of_pod(before: &Value, after: &Value) -> Option<String> {
    let (old, new) = (&before["spec"]["nodeName"], &after["spec"]["nodeName"]);
    if !old.is_null() && old != new {
        return Some(format!("was bound to {old}, and then to {new}"));
    }
    let (old, new) = (&before["status"]["phase"], &after["status"]["phase"]);
    if has_ended(before) && old != new {
        return Some(format!("had ended as {old}, and is {new}"));
    }
    None
}

pub fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(change: Value) -> Value {
        let mut pod = json!({"metadata": {"uid": "u", "name": "p", "creationTimestamp": "t", "generation": 2},
            "spec": {}, "status": {"phase": "Pending"}});
        json_merge(&mut pod, &change);
        pod
    }

    fn json_merge(into: &mut Value, change: &Value) {
        match change {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| json_merge(&mut into[key], value)),
            value => *into = value.clone(),
        }
    }

    #[test]
    fn each_law_is_noticed() {
        let rows = [
            (json!({}), json!({"spec": {"nodeName": "n0"}}), None),
            (json!({"spec": {"nodeName": "n0"}}), json!({"spec": {"nodeName": "n1"}}), Some("bound")),
            (json!({"status": {"phase": "Failed"}}), json!({"status": {"phase": "Running"}}), Some("ended")),
            (json!({}), json!({"metadata": {"uid": "v"}}), Some("uid")),
            (json!({}), json!({"metadata": {"generation": 1}}), Some("generation")),
            (json!({"metadata": {"deletionTimestamp": "t"}}), json!({}), Some("deletion")),
        ];
        for (before, after, wanted) in rows {
            let broken = of_change("pods/a/p", Some(&pod(before)), Some(&pod(after)));
            match wanted {
                None => assert_eq!(broken, None),
                Some(word) => assert!(broken.as_ref().is_some_and(|law| law.contains(word)), "{broken:?}"),
            }
        }
        assert!(of_change("pods/a/p", None, Some(&json!({"metadata": {"name": "p"}}))).is_some());
    }
}
