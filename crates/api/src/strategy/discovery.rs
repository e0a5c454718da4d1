//! The slices that endpoints are kept in, and the leases by which nodes and leaders show that they live.

use serde_json::Value;

use super::{
    check,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    value::{get, int, is_set, items, items_mut, set_default, text},
};

pub(super) static ENDPOINT_SLICE: Rules = Rules {
    generation: Generation::Content,
    default: |object| {
        let Some(object) = object.as_object_mut() else { return };
        for port in items_mut(object, "ports").iter_mut().filter_map(Value::as_object_mut) {
            set_default(port, "protocol", "TCP");
            if get(port, "name").is_null() {
                port.insert("name".into(), "".into());
            }
        }
    },
    validate: endpoint_slice,
    validate_update: |new, old, _, errors| {
        check::immutable(&new["addressType"], &old["addressType"], &FieldPath::new("addressType"), errors);
    },
    ..Rules::DATA
};

fn endpoint_slice(object: &Value, errors: &mut Errors) {
    let kinds = ["FQDN", "IPv4", "IPv6"];
    check::one_of(&object["addressType"], &kinds, &FieldPath::new("addressType"), errors);
    let list = FieldPath::new("endpoints");
    if items(&object["endpoints"]).len() > 1000 {
        errors.push(FieldError::too_many(&list, items(&object["endpoints"]).len(), 1000));
    }
    for (i, endpoint) in items(&object["endpoints"]).iter().enumerate() {
        let path = list.index(i);
        let addresses = path.child("addresses");
        if items(&endpoint["addresses"]).is_empty() {
            errors.push(FieldError::required(&addresses, "must contain at least 1 address"));
        }
        for (i, address) in items(&endpoint["addresses"]).iter().map(text).enumerate() {
            let path = addresses.index(i);
            match text(&object["addressType"]) {
                "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                    errors.push(FieldError::invalid(&path, address, "must be a valid IPv4 address"));
                }
                "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                    errors.push(FieldError::invalid(&path, address, "must be a valid IPv6 address"));
                }
                "FQDN" => check::faults(names::subdomain(address), address, &path, errors),
                _ => {}
            }
        }
    }
    let list = FieldPath::new("ports");
    let mut taken: Vec<&str> = Vec::new();
    for (i, port) in items(&object["ports"]).iter().enumerate() {
        let path = list.index(i);
        let name = text(&port["name"]);
        if taken.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        taken.push(name);
        check::optional_name(&port["name"], names::label, &path.child("name"), errors);
        check::protocol(&port["protocol"], &path.child("protocol"), errors);
    }
}

pub(super) static LEASE: Rules = Rules {
    create_on_update: true,
    unconditional_update: false,
    validate: |object, errors| {
        let spec = &object["spec"];
        let path = FieldPath::new("spec");
        for (key, low) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
            if is_set(&spec[key]) && int(&spec[key]) < low {
                let why = if low == 1 { check::MUST_BE_POSITIVE } else { check::NOT_NEGATIVE };
                errors.push(FieldError::invalid(&path.child(key), spec[key].clone(), why));
            }
        }
    },
    ..Rules::DATA
};
