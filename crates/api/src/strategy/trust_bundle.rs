//! Whose certificates are trusted.

use std::collections::BTreeMap;

use super::{
    certificates::signer_name,
    check,
    rules::{Errors, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::{NameRule, names},
    pem,
    value::text,
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static CLUSTER_TRUST_BUNDLE: Rules = Rules {
    // Names with a signer have colons: `validate` looks closer.
    name_rule: NameRule::PathSegment,
    unconditional_update: false,
    validate: |object, errors| {
        let (name, signer) = (text(&object["metadata"]["name"]), text(&object["spec"]["signerName"]));
        check::faults(bundle_name(name, signer), name, &FieldPath::new("metadata").child("name"), errors);
        if !signer.is_empty() {
            signer_name(signer, &SPEC.child("signerName"), errors);
        }
        trust_anchors(text(&object["spec"]["trustBundle"]), &SPEC.child("trustBundle"), errors);
    },
    validate_update: |new, old, _, errors| {
        // What was taken once stays good, whatever reads certificates now.
        if new["spec"]["trustBundle"] == old["spec"]["trustBundle"] {
            errors.retain(|error| error.field != "spec.trustBundle");
        }
        check::immutable(&new["spec"]["signerName"], &old["spec"]["signerName"], &SPEC.child("signerName"), errors);
    },
    fields: &["spec.signerName"],
    ..Rules::DATA
};

/// The name of a signer's bundle begins with the signer's, that of a bundle without one has no colon.
pub(super) fn bundle_name(name: &str, signer: &str) -> names::Faults {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return names::subdomain(name);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(own) => names::subdomain(own),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")],
    }
}

fn trust_anchors(bundle: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    const LARGEST_BYTES: usize = 1 << 20;
    if bundle.len() > LARGEST_BYTES {
        errors.push(FieldError::too_long(path, LARGEST_BYTES));
        return;
    }
    let mut faults = Vec::new();
    let mut anchors: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for (i, block) in pem::blocks(bundle).enumerate() {
        match anchor(&block) {
            Ok(()) => anchors.entry(block.bytes).or_default().push(i.to_string()),
            Err(why) => faults.push(format!("entry {i} {why}")),
        }
    }
    if faults.is_empty() {
        if anchors.is_empty() {
            faults.push("at least one trust anchor must be provided".to_owned());
        }
        let twice = anchors.values().filter(|entries| entries.len() > 1);
        faults.extend(twice.map(|entries| format!("duplicate trust anchor (indices [{}])", entries.join(" "))));
    }
    errors.extend(faults.into_iter().map(|why| FieldError::invalid(path, "<value omitted>", why)));
}

/// Whether a block is the certificate of an authority, without anything beside it.
fn anchor(block: &pem::Block<'_>) -> Result<(), String> {
    if block.label != "CERTIFICATE" {
        return Err(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Err("has PEM block headers".to_owned());
    }
    let constraints = match x509_parser::parse_x509_certificate(&block.bytes) {
        Ok((&[], certificate)) => certificate.basic_constraints().map(|found| found.map(|one| one.value.clone())).ok(),
        _ => None,
    };
    match constraints.ok_or("does not parse as X.509")? {
        Some(constraints) if constraints.ca => Ok(()),
        _ => Err("does not have the CA bit set".to_owned()),
    }
}
