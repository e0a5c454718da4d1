//! Bindings, certificate requests and trust bundles.

use serde_json::Value;

use super::{
    AGE, Column, NAME, Printer,
    format::{self, NONE},
};
use crate::{
    time,
    value::{items, text},
};

pub(super) static ROLE_BINDING: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Role", "The role that is granted."),
        AGE,
        Column::text("Users", "Users that it is granted to.").wide(),
        Column::text("Groups", "Groups that it is granted to.").wide(),
        Column::text("ServiceAccounts", "Service accounts that it is granted to.").wide(),
    ],
    cells: |object, now| {
        let role = &object["roleRef"];
        let of = |kind: &str| {
            let list = items(&object["subjects"]).iter().filter(|subject| subject["kind"] == kind);
            let names = list.map(|subject| match kind {
                "ServiceAccount" => format!("{}/{}", text(&subject["namespace"]), text(&subject["name"])),
                _ => text(&subject["name"]).to_owned(),
            });
            Value::from(names.collect::<Vec<_>>().join(", "))
        };
        vec![
            format::name(object),
            format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
            format::age(object, now),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    },
};

pub(super) static SIGNING_REQUEST: Printer = Printer {
    columns: &[
        NAME,
        AGE,
        Column::text("SignerName", "Who is to sign."),
        Column::text("Requestor", "Who asks."),
        Column::text("RequestedDuration", "For how long."),
        Column::text("Condition", "Whether it is approved and issued."),
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let duration = spec["expirationSeconds"].as_i64().map_or(NONE.to_owned(), time::human_duration);
        vec![
            format::name(object),
            format::age(object, now),
            format::or(&spec["signerName"], NONE).into(),
            format::string(&spec["username"]),
            duration.into(),
            condition(object).into(),
        ]
    },
};

fn condition(request: &Value) -> String {
    let has = |kind: &str| format::condition(request, kind).is_some();
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".into(),
        (false, false) => "Pending".into(),
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(&request["status"]["certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    state
}

pub(super) static TRUST_BUNDLE: Printer = Printer {
    columns: &[NAME, Column::text("SignerName", "Whose certificates it vouches for.")],
    cells: |object, _| vec![format::name(object), format::or(&object["spec"]["signerName"], NONE).into()],
};
