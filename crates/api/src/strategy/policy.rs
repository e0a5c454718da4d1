//! Disruption budgets, priorities, runtime classes and certificate requests.

use serde_json::{Value, json};

use super::{
    Part, check,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::{NameRule, names},
    value::{int, is_empty, is_set, items, keep, same, set_default, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static POD_DISRUPTION_BUDGET: Rules = Rules {
    initial_status: Some(
        || json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
    ),
    unconditional_update: false,
    validate: |object, errors| {
        let spec = &object["spec"];
        if is_set(&spec["minAvailable"]) && is_set(&spec["maxUnavailable"]) {
            let why = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(&SPEC, spec.clone(), why));
        }
        for key in ["minAvailable", "maxUnavailable"] {
            if is_set(&spec[key]) {
                let path = SPEC.child(key);
                check::int_or_percent(&spec[key], &path, errors);
                if check::percent_of(&spec[key]).is_some_and(|percent| percent > 100) {
                    errors.push(FieldError::invalid(&path, spec[key].clone(), "must not be greater than 100%"));
                }
            }
        }
        check::label_selector(&spec["selector"], &SPEC.child("selector"), errors);
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        let path = SPEC.child("unhealthyPodEvictionPolicy");
        check::optional_one_of(&spec["unhealthyPodEvictionPolicy"], &policies, &path, errors);
    },
    ..Rules::WITH_STATUS
};

/// Names that start so are the system's own priorities.
const SYSTEM_PREFIX: &str = "system-";
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) static PRIORITY_CLASS: Rules = Rules {
    generation: Generation::Content,
    default: |object| {
        if let Some(object) = object.as_object_mut() {
            set_default(object, "preemptionPolicy", "PreemptLowerPriority");
        }
    },
    validate: |object, errors| {
        let (name, value) = (text(&object["metadata"]["name"]), int(&object["value"]));
        let known = SYSTEM_PRIORITIES.contains(&(name, value));
        if name.starts_with(SYSTEM_PREFIX) && !known {
            let meta = FieldPath::new("metadata");
            let why = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {name} is \
                 not a known system priority class"
            );
            errors.push(FieldError::forbidden(&meta.child("name"), why));
        } else if value > HIGHEST_USER_PRIORITY && !known {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
            errors.push(FieldError::forbidden(&FieldPath::new("value"), why));
        }
        let policies = ["Never", "PreemptLowerPriority"];
        let path = FieldPath::new("preemptionPolicy");
        check::optional_one_of(&object["preemptionPolicy"], &policies, &path, errors);
    },
    validate_update: |new, old, _, errors| {
        if int(&new["value"]) != int(&old["value"]) {
            errors.push(FieldError::forbidden(&FieldPath::new("value"), "may not be changed in an update."));
        }
        let path = FieldPath::new("preemptionPolicy");
        check::immutable(&new["preemptionPolicy"], &old["preemptionPolicy"], &path, errors);
    },
    ..Rules::DATA
};

pub(super) static RUNTIME_CLASS: Rules = Rules {
    unconditional_update: false,
    validate: |object, errors| {
        check::name(&object["handler"], names::label, &FieldPath::new("handler"), errors);
        let overhead = FieldPath::new("overhead");
        check::resource_list(&object["overhead"]["podFixed"], &overhead.child("podFixed"), errors);
    },
    validate_update: |new, old, _, errors| {
        check::immutable(&new["handler"], &old["handler"], &FieldPath::new("handler"), errors);
    },
    ..Rules::DATA
};

pub(super) static CERTIFICATE_SIGNING_REQUEST: Rules = Rules {
    name_rule: NameRule::PathSegment,
    generation: Generation::Never,
    update: |new, old, part| match part {
        Part::Main => keep(new, old, "spec"),
        // An approval adds conditions; the certificate is the signer's to write.
        Part::Subresource("approval") => {
            let conditions = new["status"].get("conditions").cloned();
            for key in ["spec", "status"] {
                keep(new, old, key);
            }
            if let (Some(conditions), Some(object)) = (conditions, new.as_object_mut())
                && let Some(status) = crate::value::object_at(object, "status")
            {
                status.insert("conditions".into(), conditions);
            }
        }
        Part::Subresource(_) => {}
    },
    validate: request,
    validate_update: |new, old, part, errors| {
        let path = FieldPath::new("status");
        let certificate = path.child("certificate");
        if part == Part::Subresource("status")
            && !is_empty(&old["status"]["certificate"])
            && !same(&new["status"]["certificate"], &old["status"]["certificate"])
        {
            errors.push(FieldError::forbidden(&certificate, "updates may not change the certificate once set"));
        }
        for kind in ["Approved", "Denied", "Failed"] {
            let has = |object: &Value| items(&object["status"]["conditions"]).iter().any(|one| one["type"] == kind);
            if has(old) && !has(new) {
                let why = format!("updates may not remove a condition of type \"{kind}\"");
                errors.push(FieldError::forbidden(&path.child("conditions"), why));
            }
        }
    },
    fields: &["spec.signerName"],
    subresource_writes_status: &["approval"],
    ..Rules::WITH_STATUS
};

/// What keys may be used for, in upstream's order, which is the alphabet's.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn request(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    check::required(&spec["request"], &SPEC.child("request"), errors);
    if check::required(&spec["signerName"], &SPEC.child("signerName"), errors) {
        let signer = text(&spec["signerName"]);
        let fault = match signer.split_once('/') {
            Some((domain, path)) => names::subdomain(domain).into_iter().next().or_else(|| {
                path.is_empty().then(|| {
                    "must be a fully qualified domain and path of the form 'example.com/signer-name'".to_owned()
                })
            }),
            None => Some("must be a fully qualified domain and path of the form 'example.com/signer-name'".to_owned()),
        };
        // What is signed for unknown purposes has no place in v1.
        let is_legacy = signer == "kubernetes.io/legacy-unknown";
        let fault = is_legacy.then(|| "the legacy signerName is not allowed via this API version".to_owned()).or(fault);
        if let Some(why) = fault {
            errors.push(FieldError::invalid(&SPEC.child("signerName"), signer, why));
        }
    }
    let usages = SPEC.child("usages");
    if items(&spec["usages"]).is_empty() {
        errors.push(FieldError::required(&usages, "usages must contain at least one value"));
    }
    for (at, usage) in items(&spec["usages"]).iter().enumerate() {
        if !USAGES.contains(&text(usage)) {
            errors.push(FieldError::not_supported(&usages.index(at), usage.clone(), &USAGES));
        }
        if items(&spec["usages"])[..at].contains(usage) {
            errors.push(FieldError::duplicate(&usages.index(at), usage.clone()));
        }
    }
    let has = |kind: &str| items(&object["status"]["conditions"]).iter().any(|one| one["type"] == kind);
    if has("Approved") && has("Denied") {
        let path = FieldPath::new("status");
        let why = "Approved and Denied conditions are mutually exclusive";
        errors.push(FieldError::invalid(&path.child("conditions"), "Denied", why));
    }
    let seconds = &spec["expirationSeconds"];
    if is_set(seconds) && int(seconds) < 600 {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&SPEC.child("expirationSeconds"), seconds.clone(), why));
    }
}
