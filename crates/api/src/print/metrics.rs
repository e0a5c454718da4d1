use serde_json::Value;

use super::{Column, NAME, Printer, format};
use crate::{
    quantity::Quantity,
    value::{items, text},
};

const COLUMNS: &[Column] = &[
    NAME,
    Column::text("cpu", "How much of a processor is used."),
    Column::text("memory", "How much memory is used."),
    Column::text("Window", "Over how long that was measured."),
];

pub(super) static NODE_METRICS: Printer =
    Printer { columns: COLUMNS, cells: |object, _| cells(object, &[&object["usage"]]) };

pub(super) static POD_METRICS: Printer = Printer {
    columns: COLUMNS,
    cells: |object, _| {
        let usages: Vec<&Value> = items(&object["containers"]).iter().map(|container| &container["usage"]).collect();
        cells(object, &usages)
    },
};

fn cells(object: &Value, usages: &[&Value]) -> Vec<Value> {
    let sum = |resource: &str| {
        let amounts = usages.iter().map(|usage| Quantity::or_zero(&usage[resource]));
        amounts.reduce(|one, other| one + other).unwrap_or(Quantity::ZERO).to_string()
    };
    vec![format::name(object), sum("cpu").into(), sum("memory").into(), text(&object["window"]).into()]
}
