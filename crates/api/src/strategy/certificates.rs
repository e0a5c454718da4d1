//! Certificate requests, and what signers are called.

use serde_json::Value;

use super::{
    Part, check,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath, quote},
    meta::{NameRule, names},
    value::{int, is_empty, is_set, items, keep, same, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

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
    let signer = text(&spec["signerName"]);
    signer_name(signer, &SPEC.child("signerName"), errors);
    // What is signed for unknown purposes has no place in v1.
    if signer == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(&SPEC.child("signerName"), signer, why));
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

/// `example.com/signer-name`, as everything that names a signer has it.
pub(super) fn signer_name(signer: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    const LONGEST_DOMAIN: usize = 253;
    // The longest path is a namespace's name, a dot, and the name of something in it.
    const LONGEST: usize = LONGEST_DOMAIN + 1 + 63 + 1 + 253;
    if signer.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let Some((domain, own)) = signer.split_once('/').filter(|(_, own)| !own.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, signer, why));
        return;
    };
    if domain.len() > LONGEST_DOMAIN {
        errors.push(FieldError::too_long(path, LONGEST_DOMAIN));
    }
    labels(domain, names::label, path, errors);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    labels(own, names::subdomain, path, errors);
    if signer.len() > LONGEST {
        errors.push(FieldError::too_long(path, LONGEST));
    }
}

/// What stands between dots follows `rule`; the first that does not is told of.
fn labels(text: &str, rule: fn(&str) -> names::Faults, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut labels = text.split('.').map(|label| (label, rule(label)));
    let Some((label, faults)) = labels.find(|(_, faults)| !faults.is_empty()) else { return };
    let why = |fault| format!("validating label {}: {fault}", quote(label));
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, text, why(fault))));
}
