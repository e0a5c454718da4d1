//! Which names a definition gets, and whether it is established: pure, over all definitions at once.
//!
//! The rules and words are those of upstream's naming and establishing controllers: within a group, plural, singular and
//! short names share one space, and kind and list kind another. Who has a name keeps it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use knarr_api::{field::quote, registry::builtins, time};
use serde_json::{Value, json};

use crate::json::{items, text};

pub const ESTABLISHED: &str = "Established";
pub const TERMINATING: &str = "Terminating";
const ACCEPTED: &str = "NamesAccepted";
const CONFORMANT: &str = "KubernetesAPIApprovalPolicyConformant";
const APPROVAL: &str = "api-approved.kubernetes.io";

/// The names that are taken within a group.
#[derive(Debug, Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn add(&mut self, names: &Value) {
        let resources = [text(&names["plural"]), text(&names["singular"])];
        let short = items(&names["shortNames"]).iter().map(text);
        let full = |name: &&str| !name.is_empty();
        self.resources.extend(resources.into_iter().chain(short).filter(full).map(str::to_owned));
        let kinds = [text(&names["kind"]), text(&names["listKind"])];
        self.kinds.extend(kinds.into_iter().filter(full).map(str::to_owned));
    }
}

/// The status that each definition should have, in the order that they are given in. Who comes first gets what two
/// want, so the order should be that of their creation.
pub fn decide(definitions: &[&Value], now: Timestamp) -> Vec<Value> {
    let mut taken: BTreeMap<&str, Taken> = BTreeMap::new();
    for resource in builtins() {
        let names = json!({"plural": resource.plural, "singular": resource.singular, "shortNames": resource.short_names,
            "kind": resource.kind, "listKind": resource.list_kind()});
        taken.entry(resource.group).or_default().add(&names);
    }
    for definition in definitions {
        taken.entry(text(&definition["spec"]["group"])).or_default().add(&definition["status"]["acceptedNames"]);
    }
    let mut decided = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let taken = taken.entry(text(&definition["spec"]["group"])).or_default();
        let status = status_of(definition, taken, now);
        taken.add(&status["acceptedNames"]);
        decided.push(status);
    }
    decided
}

fn status_of(definition: &Value, taken: &Taken, now: Timestamp) -> Value {
    let mut status = definition["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let (accepted, conflict) = names(&definition["spec"], &status["acceptedNames"], taken);
    status["acceptedNames"] = accepted;
    let fine = conflict.is_none();
    let (word, reason, message) = match conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", reason, message),
    };
    set_condition(&mut status, ACCEPTED, word, reason, &message, now);
    if !is_true(&status, ESTABLISHED) {
        let deleting = !definition["metadata"]["deletionTimestamp"].is_null();
        let message = "the initial names have been accepted";
        match (fine, deleting) {
            (true, false) => set_condition(&mut status, ESTABLISHED, "True", "InitialNamesAccepted", message, now),
            (true, true) => {}
            (false, _) => {
                let why = "not all names are accepted";
                set_condition(&mut status, ESTABLISHED, "False", "NotAccepted", why, now);
            }
        }
    }
    if let Some((word, reason, message)) = approval(definition) {
        set_condition(&mut status, CONFORMANT, word, reason, &message, now);
    }
    status
}

/// The names that a definition gets, and what is in the way of the others.
fn names(spec: &Value, accepted: &Value, taken: &Taken) -> (Value, Option<(&'static str, String)>) {
    let wanted = &spec["names"];
    let mut given = accepted.as_object().cloned().unwrap_or_default();
    // An object of a group that is called as a built-in is stored would lie among that one's.
    let group = text(&spec["group"]);
    let inside = builtins().iter().any(|resource| resource.storage == group);
    let inside = inside.then(|| ("GroupConflict", format!("{} is already in use", quote(group))));
    // In upstream's order: of several conflicts, the last is told.
    let mut take = |key: &str, reason: &'static str, used: &BTreeSet<String>| {
        let name = text(&wanted[key]);
        if name == text(&accepted[key]) || !used.contains(name) {
            given.insert(key.to_owned(), name.into());
            return None;
        }
        Some((reason, format!("{} is already in use", quote(name))))
    };
    let plural = take("plural", "PluralConflict", &taken.resources);
    let singular = take("singular", "SingularConflict", &taken.resources);
    let kind = take("kind", "KindConflict", &taken.kinds);
    let list_kind = take("listKind", "ListKindConflict", &taken.kinds);
    let own = items(&accepted["shortNames"]);
    let used: Vec<String> = items(&wanted["shortNames"])
        .iter()
        .filter(|name| !own.contains(name) && taken.resources.contains(text(name)))
        .map(|name| format!("{} is already in use", quote(text(name))))
        .collect();
    let short = match used.as_slice() {
        [] => {
            copy_list(&mut given, wanted, "shortNames");
            None
        }
        [one] => Some(("ShortNamesConflict", one.clone())),
        several => Some(("ShortNamesConflict", format!("[{}]", several.join(", ")))),
    };
    copy_list(&mut given, wanted, "categories");
    (Value::Object(given), list_kind.or(kind).or(short).or(singular).or(plural).or(inside))
}

fn copy_list(given: &mut serde_json::Map<String, Value>, wanted: &Value, key: &str) {
    match items(&wanted[key]) {
        [] => given.remove(key),
        list => given.insert(key.to_owned(), list.to_vec().into()),
    };
}

/// Groups of the Kubernetes project are for what went through its review, or says that it did not.
/// (<https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/1111-api-approval>)
fn approval(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    let group = text(&definition["spec"]["group"]);
    let of = |suffix: &str| group == suffix || group.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    if !of("k8s.io") && !of("kubernetes.io") {
        return None;
    }
    let said = text(&definition["metadata"]["annotations"][APPROVAL]);
    if said.is_empty() {
        let why = format!(
            "protected groups must have approval annotation {}, see https://github.com/kubernetes/enhancements/pull/1111",
            quote(APPROVAL)
        );
        return Some(("False", "MissingAnnotation", why));
    }
    if said.starts_with("unapproved") {
        return Some(("False", "UnapprovedAnnotation", format!("not approved: {}", quote(said))));
    }
    if url::Url::parse(said).is_ok_and(|url| url.has_host()) {
        return Some(("True", "ApprovedAnnotation", format!("approved in {said}")));
    }
    let why = format!(
        "protected groups must have approval annotation {} with either a URL or a reason starting with \"unapproved\", \
         see https://github.com/kubernetes/enhancements/pull/1111",
        quote(APPROVAL)
    );
    Some(("False", "InvalidAnnotation", why))
}

pub fn is_true(status: &Value, kind: &str) -> bool {
    items(&status["conditions"]).iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Sets a condition; the time is that of the last change of its status.
pub fn set_condition(status: &mut Value, kind: &str, word: &str, reason: &str, message: &str, now: Timestamp) {
    let mut condition = json!({"type": kind, "status": word, "reason": reason, "message": message});
    let conditions = crate::json::list_mut(status, "conditions");
    let there = conditions.iter_mut().find(|condition| condition["type"] == kind);
    let since = there.as_ref().filter(|there| there["status"] == word).map(|there| there["lastTransitionTime"].clone());
    condition["lastTransitionTime"] = since.unwrap_or_else(|| time::seconds(now).into());
    match there {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}
