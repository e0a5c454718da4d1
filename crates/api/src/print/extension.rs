//! What extends or guards the API.

use serde_json::Value;

use super::{
    AGE, Column, NAME, Printer,
    format::{self, UNSET, number},
};
use crate::value::{int, is_set, items, text};

pub(super) static WEBHOOKS: Printer = Printer {
    columns: &[NAME, Column::number("Webhooks", "How many webhooks it names."), AGE],
    cells: |object, now| vec![format::name(object), items(&object["webhooks"]).len().into(), format::age(object, now)],
};

fn param_kind(object: &Value) -> Value {
    let kind = &object["spec"]["paramKind"];
    match is_set(kind) {
        true => format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])).into(),
        false => UNSET.into(),
    }
}

pub(super) static VALIDATING_POLICY: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Validations", "How many expressions it has."),
        Column::text("ParamKind", "The kind of its parameters."),
        AGE,
    ],
    cells: |object, now| {
        let count = items(&object["spec"]["validations"]).len();
        vec![format::name(object), count.into(), param_kind(object), format::age(object, now)]
    },
};

pub(super) static MUTATING_POLICY: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Mutations", "How many expressions it has."),
        Column::text("ParamKind", "The kind of its parameters."),
        AGE,
    ],
    cells: |object, now| {
        let count = items(&object["spec"]["mutations"]).len();
        vec![format::name(object), count.into(), param_kind(object), format::age(object, now)]
    },
};

pub(super) static POLICY_BINDING: Printer = Printer {
    columns: &[
        NAME,
        Column::text("PolicyName", "The policy that is bound."),
        Column::text("ParamRef", "The parameters that it is given."),
        AGE,
    ],
    cells: |object, now| {
        let parameters = &object["spec"]["paramRef"];
        let shown = match (is_set(parameters), text(&parameters["namespace"])) {
            (false, _) => UNSET.to_owned(),
            (true, "") if text(&parameters["name"]).is_empty() => "*".into(),
            (true, "") => text(&parameters["name"]).into(),
            (true, namespace) => format!("{namespace}/{}", text(&parameters["name"])),
        };
        let policy = format::string(&object["spec"]["policyName"]);
        vec![format::name(object), policy, shown.into(), format::age(object, now)]
    },
};

pub(super) static API_SERVICE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Service", "Who serves this group and version."),
        Column::text("Available", "Whether it can be reached."),
        AGE,
    ],
    cells: |object, now| {
        let service = &object["spec"]["service"];
        let shown = match is_set(service) {
            true => format!("{}/{}", text(&service["namespace"]), text(&service["name"])),
            false => "Local".into(),
        };
        let available = match format::condition(object, "Available") {
            Some(condition) if condition["status"] == "True" => "True".to_owned(),
            Some(condition) => format!("{} ({})", text(&condition["status"]), text(&condition["reason"])),
            None => "Unknown".into(),
        };
        vec![format::name(object), shown.into(), available.into(), format::age(object, now)]
    },
};

pub(super) static FLOW_SCHEMA: Printer = Printer {
    columns: &[
        NAME,
        Column::text("PriorityLevel", "The level that its requests go to."),
        Column::number("MatchingPrecedence", "The lower, the earlier it is tried."),
        Column::text("DistinguisherMethod", "How its requests are split into flows."),
        AGE,
        Column::text("MissingPL", "Whether its level is missing."),
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let dangling = format::condition(object, "Dangling").map_or("?", |condition| text(&condition["status"]));
        vec![
            format::name(object),
            format::string(&spec["priorityLevelConfiguration"]["name"]),
            number(&spec["matchingPrecedence"]),
            format::or(&spec["distinguisherMethod"]["type"], format::NONE).into(),
            format::age(object, now),
            dangling.into(),
        ]
    },
};

pub(super) static PRIORITY_LEVEL: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Type", "Limited or Exempt."),
        Column::text("NominalConcurrencyShares", "Its share of the server."),
        Column::text("Queues", "How many queues it has."),
        Column::text("HandSize", "How many of them one flow may use."),
        Column::text("QueueLengthLimit", "How long each may grow."),
        AGE,
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let limited = &spec["limited"];
        let shares = if is_set(limited) { limited } else { &spec["exempt"] };
        let queuing = &limited["limitResponse"]["queuing"];
        let or_none = |key: &str| match is_set(queuing) {
            true => Value::from(int(&queuing[key])),
            false => format::NONE.into(),
        };
        vec![
            format::name(object),
            format::string(&spec["type"]),
            format::scalar(&shares["nominalConcurrencyShares"], format::NONE).into(),
            or_none("queues"),
            or_none("handSize"),
            or_none("queueLengthLimit"),
            format::age(object, now),
        ]
    },
};
