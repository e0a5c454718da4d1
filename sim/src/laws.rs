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
    match key.split('/').next() {
        Some("pods") => of_pod(before, after),
        Some("deployments.apps") => of_deployment(before, after),
        _ => None,
    }
}

/// Nobody in a simulation takes the revision away: who writes without it has written from an old copy.
fn of_deployment(before: &Value, after: &Value) -> Option<String> {
    let revision = |object: &Value| object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone();
    let (old, new) = (revision(before), revision(after));
    (!old.is_null() && new.is_null()).then(|| format!("had revision {old}, and has none"))
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

/// What a pod is compared with.
pub struct Neighbours<'a> {
    pub objects: &'a BTreeMap<String, Arc<Value>>,
    /// The most replicas that each ReplicaSet and StatefulSet ever wanted, by uid: a smaller wish may not have been heard of yet.
    pub most_wanted: &'a BTreeMap<String, u64>,
}

impl Neighbours<'_> {
    fn pods(&self) -> impl Iterator<Item = &Value> {
        let pods = self.objects.range("pods/".to_owned()..).take_while(|(key, _)| key.starts_with("pods/"));
        pods.map(|(_, pod)| &**pod)
    }

    /// Says which law a pod that is new, or new on its node, breaks together with what else there is. Holds only where
    /// no answer is lost and nobody forgets what it did: who does not know that a pod was made, makes another.
    pub fn judge(&self, pod: &Value, before: Option<&Value>) -> Option<String> {
        let node = &pod["spec"]["nodeName"];
        let is_placed_now = !node.is_null() && before.is_none_or(|before| before["spec"]["nodeName"].is_null());
        if is_placed_now {
            let on_node = self.pods().filter(|one| one["spec"]["nodeName"] == *node && !has_ended(one));
            let asked: i64 = on_node.map(cpu_milli).sum();
            return (asked > CPU_MILLI).then(|| format!("makes {node} have {asked} of {CPU_MILLI} milli-CPU"));
        }
        if before.is_some() { None } else { self.judge_newborn(pod) }
    }

    fn judge_newborn(&self, pod: &Value) -> Option<String> {
        let owner = controller(pod)?;
        let siblings: Vec<&Value> =
            self.pods().filter(|one| controller(one).is_some_and(|other| other["uid"] == owner["uid"])).collect();
        let is_active = |one: &&&Value| !has_ended(one) && one["metadata"]["deletionTimestamp"].is_null();
        let active: Vec<&Value> = siblings.iter().filter(is_active).copied().collect();
        let most = match owner["kind"].as_str()? {
            "Job" => {
                let job = self.objects.values().find(|object| object["metadata"]["uid"] == owner["uid"])?;
                job["spec"]["parallelism"].as_u64()?
            }
            "ReplicaSet" => *self.most_wanted.get(owner["uid"].as_str()?)?,
            "StatefulSet" => {
                let most = *self.most_wanted.get(owner["uid"].as_str()?)?;
                let ordinal = pod["metadata"]["name"].as_str()?.rsplit_once('-')?.1.parse::<u64>().ok()?;
                return (ordinal >= most).then(|| format!("has ordinal {ordinal} of {most} that were ever wanted"));
            }
            "DaemonSet" => return self.judge_daemon(pod, &owner["uid"], &active),
            _ => return None,
        };
        if active.len() as u64 > most {
            let there = active.len();
            return Some(format!("is one of {there} of {} {}, which wants {most}", owner["kind"], owner["name"]));
        }
        let index_of = |one: &Value| one["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"].clone();
        let index = index_of(pod);
        let done = siblings.iter().any(|one| one["status"]["phase"] == "Succeeded" && index_of(one) == index);
        let again = !index.is_null() && (done || active.iter().filter(|one| index_of(one) == index).count() > 1);
        again.then(|| format!("does index {index} of Job {} again", owner["name"]))
    }

    /// A node gets one pod of a DaemonSet; while pods are exchanged with a surge, one of each template.
    fn judge_daemon(&self, pod: &Value, owner_uid: &Value, active: &[&Value]) -> Option<String> {
        let set = self.objects.values().find(|object| object["metadata"]["uid"] == *owner_uid)?;
        let node = |one: &Value| one["spec"]["affinity"]["nodeAffinity"].to_string();
        let revision = |one: &Value| one["metadata"]["labels"]["controller-revision-hash"].clone();
        let on_node: Vec<_> = active.iter().filter(|one| node(one) == node(pod)).collect();
        let surges = set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] != 0;
        let alike = on_node.iter().filter(|one| !surges || revision(one) == revision(pod)).count();
        (alike > 1).then(|| format!("is one of {alike} of DaemonSet {} for one node", set["metadata"]["name"]))
    }
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
        let revised = pod(json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}}));
        let lost = of_change("deployments.apps/a/d", Some(&revised), Some(&pod(json!({}))));
        assert!(lost.is_some_and(|law| law.contains("revision")));
        assert!(of_change("pods/a/p", None, Some(&json!({"metadata": {"name": "p"}}))).is_some());
    }

    #[test]
    fn pods_too_many_are_noticed() {
        let born = |kind: &str, name: &str, node: &str| {
            let affinity = json!({"nodeAffinity": node});
            let owner = json!([{"kind": kind, "name": "o", "uid": kind, "controller": true}]);
            pod(
                json!({"metadata": {"name": name, "uid": name, "ownerReferences": owner}, "spec": {"affinity": affinity}}),
            )
        };
        let set = json!({"metadata": {"name": "o", "uid": "DaemonSet"}, "spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 0}}}});
        let most_wanted = BTreeMap::from([("StatefulSet".to_owned(), 2)]);
        let judge = |there: &[Value], new: &Value| {
            let pods =
                there.iter().chain([new]).map(|pod| (format!("pods/a/{}", pod["metadata"]["name"]), pod.clone()));
            let objects = pods.chain([("daemonsets.apps/a/o".to_owned(), set.clone())]);
            let objects = objects.map(|(key, object)| (key, Arc::new(object))).collect();
            Neighbours { objects: &objects, most_wanted: &most_wanted }.judge(new, None)
        };
        let first = born("DaemonSet", "d1", "n0");
        for (new, wanted) in [
            (born("DaemonSet", "d2", "n0"), Some("for one node")),
            (born("DaemonSet", "d2", "n1"), None),
            (born("StatefulSet", "o-1", "n0"), None),
            (born("StatefulSet", "o-2", "n0"), Some("ordinal 2")),
        ] {
            let broken = judge(std::slice::from_ref(&first), &new);
            match wanted {
                None => assert_eq!(broken, None),
                Some(words) => assert!(broken.as_ref().is_some_and(|law| law.contains(words)), "{broken:?}"),
            }
        }
    }
}
