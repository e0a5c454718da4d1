//! The sources of a projected volume.

use std::collections::HashSet;

use serde_json::Value;

use super::volume::{downward_items, files, mode, path_inside};
use crate::{
    field::{FieldError, FieldPath},
    strategy::{certificates::signer_name, check, rules::Errors, trust_bundle::bundle_name},
    value::{int, is_empty, is_set, items, text},
};

const KINDS: [&str; 6] =
    ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

pub(super) fn sources(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    let list = path.child("sources");
    let mut taken = HashSet::new();
    for (i, one) in items(&source["sources"]).iter().enumerate() {
        let own = list.index(i);
        let mut given = KINDS.into_iter().filter(|kind| is_set(&one[*kind]));
        let Some(kind) = given.next() else {
            errors.push(FieldError::required(&own, "must specify a volume type"));
            continue;
        };
        // Upstream's errors call the bundle so.
        let inside = own.child(if kind == "clusterTrustBundle" { "clusterTrustBundlePEM" } else { kind });
        let inner = &one[kind];
        match kind {
            "secret" | "configMap" => {
                check::required(&inner["name"], &inside.child("name"), errors);
                files(inner, &inside, errors);
            }
            "downwardAPI" => downward_items(&inner["items"], &inside.child("items"), errors),
            "serviceAccountToken" => token(inner, &inside, errors),
            "clusterTrustBundle" => trust_bundle(inner, &inside, errors),
            _ => {}
        }
        for other in given {
            errors.push(FieldError::forbidden(&own.child(other), "may not specify more than 1 volume type"));
        }
        let file = (kind == "clusterTrustBundle").then(|| text(&inner["path"]));
        for file in items(&inner["items"]).iter().map(|item| text(&item["path"])).chain(file) {
            if !file.is_empty() && !taken.insert(file) {
                let named = inner["name"].as_str().filter(|_| matches!(kind, "secret" | "configMap"));
                errors.push(FieldError::invalid(path, named.unwrap_or(file), "conflicting duplicate paths"));
            }
        }
    }
}

fn token(token: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let seconds = &token["expirationSeconds"];
    let seconds_path = path.child("expirationSeconds");
    if is_set(seconds) && int(seconds) < 600 {
        errors.push(FieldError::invalid(
            &seconds_path,
            seconds.clone(),
            "may not specify a duration less than 10 minutes",
        ));
    } else if int(seconds) > 1 << 32 {
        errors.push(FieldError::invalid(
            &seconds_path,
            seconds.clone(),
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if is_empty(&token["path"]) {
        errors.push(FieldError::required(&path.child("path"), ""));
    } else {
        check::descending_path(text(&token["path"]), &path.child("path"), errors);
    }
}

/// The anchors of one bundle, or those of all of a signer's.
fn trust_bundle(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let (name_path, signer_path, selector_path) =
        (path.child("name"), path.child("signerName"), path.child("labelSelector"));
    let selector = &source["labelSelector"];
    match (source["name"].as_str(), source["signerName"].as_str()) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, source.clone(), "only one of name and signerName may be used"));
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.push(FieldError::required(&name_path, "must be a valid object name"));
            }
            let signer = name.rsplit_once(':').map(|(signer, _)| signer.replace(':', "/")).unwrap_or_default();
            for fault in bundle_name(name, &signer) {
                let why = format!("not a valid clustertrustbundlename: {fault}");
                errors.push(FieldError::invalid(&name_path, name, why));
            }
            if is_set(selector) {
                let why = "labelSelector must be unset if name is specified";
                errors.push(FieldError::invalid(&selector_path, selector.clone(), why));
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                errors.push(FieldError::required(&signer_path, "must be a valid signer name"));
            }
            signer_name(signer, &signer_path, errors);
            check::label_selector(selector, &selector_path, errors);
        }
        (None, None) => errors.push(FieldError::required(path, "either name or signerName must be specified")),
    }
    path_inside(&source["path"], &path.child("path"), errors);
}
