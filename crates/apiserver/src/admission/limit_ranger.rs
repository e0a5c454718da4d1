use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::quantity::Quantity;
use knarr_api::quota::amounts::{self, Amounts};
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::{denied, is_main, is_of};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation};
use crate::json::{items, items_mut, text};

/// Where a pod says what was filled in.
const SET_BY: &str = "kubernetes.io/limit-ranger";

/// Fills in and checks requests and limits by the LimitRanges of a namespace
/// (<https://kubernetes.io/docs/concepts/policy/limit-range/>).
pub struct LimitRanger {
    lookup: Arc<dyn Lookup>,
}

impl LimitRanger {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    /// The limits of a namespace, one for each type of each LimitRange.
    fn limits(&self, request: &AdmissionRequest<'_>) -> Vec<Value> {
        let is_write = matches!(request.operation, Operation::Create | Operation::Update);
        let is_resize = request.subresource == "resize" && is_of(request, "", "pods");
        let is_subject = is_resize || is_main(request, "", "pods") || is_main(request, "", "persistentvolumeclaims");
        if !is_write || !is_subject || request.namespace.is_empty() {
            return Vec::new();
        }
        let ranges = self.lookup.list(builtin::limit_ranges(), request.namespace);
        ranges.iter().flat_map(|stored| items(&stored.value()["spec"]["limits"]).to_vec()).collect()
    }
}

#[async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation != Operation::Create || !is_main(request, "", "pods") {
            return Ok(());
        }
        let mut told = Vec::new();
        for limit in self.limits(request).iter().filter(|limit| limit["type"] == "Container") {
            for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
                for container in items_mut(&mut request.object["spec"], list) {
                    for (which, defaults, what) in
                        [("requests", "defaultRequest", "request"), ("limits", "default", "limit")]
                    {
                        let filled = fill_in(container, which, &limit[defaults]);
                        if !filled.is_empty() {
                            told.push(format!("{} {what} for {word} {}", filled.join(", "), text(&container["name"])));
                        }
                    }
                }
            }
        }
        if !told.is_empty() {
            let told = format!("LimitRanger plugin set: {}", told.join("; "));
            request.object["metadata"]["annotations"][SET_BY] = told.into();
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let limits = self.limits(request);
        // What a pod asks for can be changed by resizing it only.
        let is_plain_update = request.operation == Operation::Update && is_main(request, "", "pods");
        if limits.is_empty() || is_plain_update {
            return Ok(());
        }
        let mut problems = Vec::new();
        for limit in &limits {
            match (text(&limit["type"]), request.resource.plural) {
                ("Container", "pods") => {
                    let spec = &request.object["spec"];
                    for container in items(&spec["initContainers"]).iter().chain(items(&spec["containers"])) {
                        let resources = &container["resources"];
                        let (requests, limits) =
                            (amounts::read(&resources["requests"]), amounts::read(&resources["limits"]));
                        check(limit, "Container", &requests, &limits, &mut problems);
                    }
                }
                ("Pod", "pods") => {
                    let pod = &request.object;
                    let (requests, limits) = (amounts::of_pod(pod, "requests"), amounts::of_pod(pod, "limits"));
                    check(limit, "Pod", &requests, &limits, &mut problems);
                }
                ("PersistentVolumeClaim", "persistentvolumeclaims") => {
                    let requests = amounts::read(&request.object["spec"]["resources"]["requests"]);
                    check_claim(limit, &requests, &mut problems);
                }
                _ => {}
            }
        }
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(denied(request, one)),
            many => Err(denied(request, format!("[{}]", many.join(", ")))),
        }
    }
}

/// The names of the resources that were filled in, sorted.
fn fill_in(container: &mut Value, which: &str, defaults: &Value) -> Vec<String> {
    let mut filled = Vec::new();
    let Some(defaults) = defaults.as_object().filter(|_| container.is_object()) else { return filled };
    let resources = &mut container["resources"];
    if resources.is_null() {
        *resources = json!({});
    }
    if !resources.is_object() {
        return filled;
    }
    if resources[which].is_null() {
        resources[which] = json!({});
    }
    let Some(target) = resources[which].as_object_mut() else { return filled };
    for (name, amount) in defaults {
        target.entry(name.clone()).or_insert_with(|| {
            filled.push(name.clone());
            amount.clone()
        });
    }
    if target.is_empty() {
        resources.as_object_mut().map(|resources| resources.remove(which));
    }
    filled.sort();
    filled
}

fn check(limit: &Value, what: &str, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    for (name, minimum) in amounts::read(&limit["min"]) {
        let head = format!("minimum {name} usage per {what} is {minimum}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => problems.push(format!("{head}.  No request is specified")),
            (Some(asked), _) if *asked < minimum => problems.push(format!("{head}, but request is {asked}")),
            (_, Some(limited)) if *limited < minimum => problems.push(format!("{head}, but limit is {limited}")),
            _ => {}
        }
    }
    for (name, maximum) in amounts::read(&limit["max"]) {
        let head = format!("maximum {name} usage per {what} is {maximum}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => problems.push(format!("{head}.  No limit is specified")),
            (_, Some(limited)) if *limited > maximum => problems.push(format!("{head}, but limit is {limited}")),
            (Some(asked), _) if *asked > maximum => problems.push(format!("{head}, but request is {asked}")),
            _ => {}
        }
    }
    for (name, ratio) in amounts::read(&limit["maxLimitRequestRatio"]) {
        check_ratio(&name, ratio, what, requests.get(&name), limits.get(&name), problems);
    }
}

fn check_ratio(
    name: &str,
    ratio: Quantity,
    what: &str,
    asked: Option<&Quantity>,
    limited: Option<&Quantity>,
    problems: &mut Vec<String>,
) {
    let head = format!("{name} max limit to request ratio per {what} is {ratio}");
    match (asked, limited) {
        (None, _) => problems.push(format!("{head}, but no request is specified or request is 0")),
        (Some(asked), _) if asked.is_zero() => {
            problems.push(format!("{head}, but no request is specified or request is 0"));
        }
        (_, None) => problems.push(format!("{head}, but no limit is specified or limit is 0")),
        (Some(asked), Some(limited)) => {
            // Both sides in thousandths of what is compared: limit / request > ratio.
            let (asked, limited) = (i128::from(asked.milli_value()), i128::from(limited.milli_value()));
            if limited * 1000 > i128::from(ratio.milli_value()) * asked {
                let provided = limited as f64 / asked as f64;
                problems.push(format!("{head}, but provided ratio is {provided:.6}"));
            }
        }
    }
}

fn check_claim(limit: &Value, requests: &Amounts, problems: &mut Vec<String>) {
    let what = "PersistentVolumeClaim";
    for (bound, word, is_wrong) in [
        ("min", "minimum", (|asked, limit| asked < limit) as fn(&Quantity, &Quantity) -> bool),
        ("max", "maximum", |asked, limit| asked > limit),
    ] {
        for (name, limit) in amounts::read(&limit[bound]) {
            let head = format!("{word} {name} usage per {what} is {limit}");
            match requests.get(&name) {
                None => problems.push(format!("{head}.  No request is specified")),
                Some(asked) if is_wrong(asked, &limit) => problems.push(format!("{head}, but request is {asked}")),
                Some(_) => {}
            }
        }
    }
}
