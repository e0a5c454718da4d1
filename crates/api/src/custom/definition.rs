//! From the object that users write to what it means.

use std::sync::Arc;

use serde_json::Value;

use super::{Conversion, Definition, Names, ScalePaths, Schema, Version, rules::Validator};
use crate::{
    print::CustomPrinter,
    schema,
    value::{items, text, truth},
};

pub(super) fn read(crd: &Value) -> Result<Definition, String> {
    let spec = &crd["spec"];
    let names = names(&spec["names"]);
    let group = text(&spec["group"]).to_owned();
    if group.is_empty() || names.plural.is_empty() || names.kind.is_empty() {
        return Err("spec.group, spec.names.plural and spec.names.kind must be there".to_owned());
    }
    let preserves_unknown = truth(&spec["preserveUnknownFields"]);
    let versions: Vec<Version> = items(&spec["versions"])
        .iter()
        .map(|one| version(one, &group, &names, preserves_unknown))
        .collect::<Result<_, _>>()?;
    if versions.iter().filter(|version| version.storage).count() != 1 {
        return Err("spec.versions must have exactly one version marked as storage version".to_owned());
    }
    Ok(Definition {
        namespaced: spec["scope"] != "Cluster",
        conversion: conversion(&spec["conversion"]),
        group,
        names,
        versions,
        preserves_unknown,
    })
}

fn strings(list: &Value) -> Vec<String> {
    items(list).iter().map(|one| text(one).to_owned()).collect()
}

/// `singular` and `listKind` are there once the definition went through its defaults; the same are taken without.
fn names(names: &Value) -> Names {
    let or = |key: &str, default: String| match text(&names[key]) {
        "" => default,
        name => name.to_owned(),
    };
    let kind = text(&names["kind"]);
    Names {
        plural: text(&names["plural"]).to_owned(),
        singular: or("singular", kind.to_lowercase()),
        kind: kind.to_owned(),
        list_kind: or("listKind", format!("{kind}List")),
        short_names: strings(&names["shortNames"]),
        categories: strings(&names["categories"]),
    }
}

fn conversion(conversion: &Value) -> Conversion {
    if conversion["strategy"] != "Webhook" {
        return Conversion::None;
    }
    let webhook = &conversion["webhook"];
    Conversion::Webhook {
        client: webhook["clientConfig"].clone(),
        review_versions: strings(&webhook["conversionReviewVersions"]),
    }
}

fn version(version: &Value, group: &str, names: &Names, preserves_unknown: bool) -> Result<Version, String> {
    let name = text(&version["name"]).to_owned();
    let structural = &version["schema"]["openAPIV3Schema"];
    let subresources = &version["subresources"];
    let rules = Schema::parse(structural).map_err(|why| format!("the schema of version {name}: {why}"))?;
    Ok(Version {
        served: truth(&version["served"]),
        storage: truth(&version["storage"]),
        deprecation: deprecation(version, group, names),
        has_status: subresources["status"].is_object(),
        scale: ScalePaths::of(&subresources["scale"]),
        selectable_fields: items(&version["selectableFields"])
            .iter()
            .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        preserves_unknown,
        written: structural.to_string().into(),
        table: Arc::new(schema::from_structural(structural)),
        rules: Arc::new(rules),
        validator: Validator::of(structural).map(Arc::new),
        printer: CustomPrinter::new(&version["additionalPrinterColumns"]),
        name,
    })
}

fn deprecation(version: &Value, group: &str, names: &Names) -> Option<String> {
    if !truth(&version["deprecated"]) {
        return None;
    }
    Some(match version["deprecationWarning"].as_str() {
        Some(warning) => warning.to_owned(),
        None => format!("{group}/{} {} is deprecated", text(&version["name"]), names.kind),
    })
}
