//! What a namespace may have, and who comes first.

use std::collections::BTreeSet;

use knarr_api::quantity::Quantity;
use serde_json::{Map, Value};

use super::{Page, labels_text, or_none, show};
use crate::cx::{dig, dig_str, items};

fn quota_rows(page: &mut Page, object: &Value, indent: &str) {
    let (hard, used) = (dig(object, "status.hard"), dig(object, "status.used"));
    for (name, amount) in hard.as_object().into_iter().flatten() {
        let used = match &used[name.as_str()] {
            Value::Null => "0".to_owned(),
            used => Quantity::from_value(used).map_or_else(|_| show(used), |quantity| quantity.to_string()),
        };
        page.line(0, format_args!("{indent}{name}\t{used}\t{}", show(amount)));
    }
}

fn scopes(page: &mut Page, object: &Value) {
    let scopes: Vec<String> = items(dig(object, "spec.scopes")).map(show).collect();
    if !scopes.is_empty() {
        page.field(0, "Scopes", scopes.join(", "));
        for scope in scopes {
            let about = match scope.as_str() {
                "Terminating" => {
                    "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system."
                }
                "NotTerminating" => {
                    "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate."
                }
                "BestEffort" => {
                    "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service."
                }
                "NotBestEffort" => {
                    "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service."
                }
                _ => continue,
            };
            page.line(0, format_args!(" * {about}"));
        }
    }
}

pub fn quota(page: &mut Page, object: &Value) {
    page.names(object);
    scopes(page, object);
    page.line(0, "Resource\tUsed\tHard");
    page.line(0, "--------\t----\t----");
    quota_rows(page, object, "");
}

pub fn quota_in_namespace(page: &mut Page, object: &Value) {
    page.line(0, format_args!("  Name:\t{}", dig_str(object, "metadata.name")));
    page.line(0, "  Resource\tUsed\tHard");
    page.line(0, "  --------\t---\t---");
    quota_rows(page, object, "  ");
}

pub fn limit_range(page: &mut Page, object: &Value) {
    page.names(object);
    page.line(0, "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
    page.line(0, "----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
    limits(page, object, "");
}

pub fn limits(page: &mut Page, object: &Value, indent: &str) {
    const FIELDS: [&str; 5] = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for row in items(dig(object, "spec.limits")) {
        let names: BTreeSet<&String> =
            FIELDS.iter().filter_map(|field| row[field].as_object()).flat_map(Map::keys).collect();
        for name in names {
            let cells = FIELDS.map(|field| match &row[field][name.as_str()] {
                Value::Null => "-".to_owned(),
                amount => show(amount),
            });
            page.line(0, format_args!("{indent}{}\t{name}\t{}", dig_str(row, "type"), cells.join("\t")));
        }
    }
}

pub fn priority_class(page: &mut Page, object: &Value) {
    page.name(object);
    page.field(0, "Value", show(&object["value"]));
    page.field(0, "GlobalDefault", object["globalDefault"] == true);
    page.field(0, "PreemptionPolicy", dig_str(object, "preemptionPolicy"));
    page.field(0, "Description", dig_str(object, "description"));
    page.field(0, "Annotations", or_none(&labels_text(dig(object, "metadata.annotations"), ",")));
}
