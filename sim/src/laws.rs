//! What must hold of every single change, whoever makes it and whatever breaks meanwhile. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::node::CPU_MILLI;

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

/// Says which law a pod that is new, or new on its node, breaks together with what else there is. Holds only where no
/// answer is lost and nobody forgets what it did: who does not know that a pod was made, makes another.
pub fn of_neighbours(pod: &Value, before: Option<&Value>, all: &BTreeMap<String, Arc<Value>>) -> Option<String> {
    let pods =
        || all.range("pods/".to_owned()..).take_while(|(key, _)| key.starts_with("pods/")).map(|(_, pod)| &**pod);
    let node = &pod["spec"]["nodeName"];
    if !node.is_null() && before.is_none_or(|before| before["spec"]["nodeName"].is_null()) {
        let asked: i64 = pods().filter(|one| one["spec"]["nodeName"] == *node && !has_ended(one)).map(cpu_milli).sum();
        return (asked > CPU_MILLI).then(|| format!("makes {node} have {asked} of {CPU_MILLI} milli-CPU"));
    }
    if before.is_some() {
        return None;
    }
    let owner = controller(pod)?;
    let is_active = |one: &&Value| !has_ended(one) && one["metadata"]["deletionTimestamp"].is_null();
    let siblings =
        || pods().filter(is_active).filter(|one| controller(one).is_some_and(|other| other["uid"] == owner["uid"]));
    let object = all.values().find(|object| object["metadata"]["uid"] == owner["uid"])?;
    let most = match owner["kind"].as_str()? {
        "Job" => object["spec"]["parallelism"].as_u64()?,
        // A wish that has just become smaller may not have been heard of.
        "ReplicaSet" => object["spec"]["replicas"].as_u64()?.max(object["status"]["replicas"].as_u64().unwrap_or(0)),
        _ => return None,
    };
    let there = siblings().count() as u64;
    if there > most {
        return Some(format!("is one of {there} of {} {}, which wants {most}", owner["kind"], owner["name"]));
    }
    let index = &pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"];
    let done = |one: &&Value| {
        one["status"]["phase"] == "Succeeded" && controller(one).is_some_and(|other| other["uid"] == owner["uid"])
    };
    let same = |one: &&Value| one["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == *index;
    let again = !index.is_null() && (pods().filter(done).any(|one| same(&one)) || siblings().filter(same).count() > 1);
    again.then(|| format!("does index {index} of Job {} again", owner["name"]))
}

fn controller(pod: &Value) -> Option<&Value> {
    pod["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

/// What a pod asks for, in the form in which this simulation writes it.
pub fn cpu_milli(pod: &Value) -> i64 {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let cpu = containers
        .filter_map(|one| one["resources"]["requests"]["cpu"].as_str()?.strip_suffix('m')?.parse::<i64>().ok());
    cpu.sum()
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
