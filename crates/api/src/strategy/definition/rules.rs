//! Rules in CEL: do they compile, and can what they cost be borne? Messages and limits are upstream's
//! (`apiextensions/validation/cel_validation.go`).

use knarr_cel::Declaration;
use serde_json::Value;

use crate::{
    custom::{Rule, compile_rule, embeds},
    field::{FieldError, FieldErrorKind, FieldPath, quote},
    strategy::rules::Errors,
    value::{entries, items, text},
};

/// What one rule may cost at most, as often as it can be run for one object.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost.
const SCHEMA_LIMIT: u64 = 100_000_000;

/// Every rule of a schema that is sound otherwise.
pub(super) fn check(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut checker = Checker { errors, total: 0, expensive: Vec::new() };
    checker.node(schema, path, &Around { is_resource: true, cardinality: Some(1), uncorrelated: None });
    let Checker { total, expensive, .. } = checker;
    if total > SCHEMA_LIMIT {
        for (field, _) in expensive {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            let detail = detail.to_owned();
            errors.push(FieldError { kind: FieldErrorKind::Forbidden, field, value: None, detail });
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, too_expensive(what, total, SCHEMA_LIMIT)));
    }
}

struct Around {
    is_resource: bool,
    /// How often a value can be there; none where nothing bounds it.
    cardinality: Option<u64>,
    /// The elements of this list can't be told apart, so that nobody knows what one was before.
    uncorrelated: Option<String>,
}

struct Checker<'e> {
    errors: &'e mut Errors,
    total: u64,
    /// The four that cost most, if they count.
    expensive: Vec<(String, u64)>,
}

impl Checker<'_> {
    fn node(&mut self, schema: &Value, path: &FieldPath<'_>, around: &Around) {
        let below = |schema: &Value, cardinality| Around {
            is_resource: embeds(schema),
            cardinality,
            uncorrelated: around.uncorrelated.clone(),
        };
        let often = |bound: &str| {
            around
                .cardinality
                .zip(schema[bound].as_i64())
                .map(|(times, most)| times.saturating_mul(u64::try_from(most).unwrap_or(0)))
        };
        let additional = &schema["additionalProperties"];
        if additional.is_object() {
            self.node(additional, &path.child("additionalProperties"), &below(additional, often("maxProperties")));
        }
        let properties = path.child("properties");
        for (name, property) in entries(&schema["properties"]) {
            self.node(property, &properties.key(name), &below(property, around.cardinality));
        }
        let element = &schema["items"];
        if element.is_object() {
            let path = path.child("items");
            let mut below = below(element, often("maxItems"));
            if schema["x-kubernetes-list-type"] != "map" && below.uncorrelated.is_none() {
                below.uncorrelated = Some(path.to_string());
            }
            self.node(element, &path, &below);
        }
        let rules = items(&schema["x-kubernetes-validations"]);
        if rules.is_empty() {
            return;
        }
        let list = path.child("x-kubernetes-validations");
        let Some(declaration) = Declaration::of(schema, "selfType", around.is_resource) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable \
                       to convert structural schema to CEL declarations";
            return self.errors.push(FieldError::internal(&list, why));
        };
        for (i, written) in rules.iter().enumerate() {
            let rule = compile_rule(written, schema, &declaration);
            self.rule(&rule, written, &declaration, &list.index(i), around);
        }
    }

    fn rule(&mut self, rule: &Rule, written: &Value, declaration: &Declaration, path: &FieldPath<'_>, around: &Around) {
        let sizes = [("self", declaration), ("oldSelf", declaration)];
        let at = path.child("rule");
        let once = rule.program.as_ref().map_or(0, |program| program.estimate(&sizes));
        let cost = once.saturating_mul(around.cardinality.unwrap_or_else(|| declaration.max_cardinality()));
        if cost > RULE_LIMIT {
            self.errors.push(FieldError::forbidden(&at, too_expensive("estimated rule cost", cost, RULE_LIMIT)));
        }
        self.observe(&at, cost);
        if let Err(why) = &rule.program {
            self.errors.push(invalid(&at, written, why));
        }
        let message = path.child("messageExpression");
        match &rule.message_program {
            Some(Err(why)) => self.errors.push(invalid(&message, written, why)),
            Some(Ok(program)) if rule.program.is_ok() => {
                let cost = program.estimate(&sizes);
                if cost > RULE_LIMIT {
                    let why = too_expensive("estimated messageExpression cost", cost, RULE_LIMIT);
                    self.errors.push(FieldError::forbidden(&message, why));
                }
                self.observe(&message, cost);
            }
            _ => {}
        }
        if rule.uses_old {
            if let Some(list) = &around.uncorrelated {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
                self.errors.push(FieldError::invalid(&at, text(&written["rule"]), why));
            }
        } else if rule.program.is_ok() && !written["optionalOldSelf"].is_null() {
            let why = "may not be set if oldSelf is not used in rule";
            let value = written["optionalOldSelf"].clone();
            self.errors.push(FieldError::invalid(&path.child("optionalOldSelf"), value, why));
        }
    }

    fn observe(&mut self, path: &FieldPath<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.expensive.push((path.to_string(), cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(4);
        }
    }
}

/// The rule stands in the message in Go's names and order.
fn invalid(path: &FieldPath<'_>, rule: &Value, why: &str) -> FieldError {
    let of = |key: &str| quote(text(&rule[key]));
    let or_null = |key: &str| rule[key].to_string();
    let shown = format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        of("rule"),
        of("message"),
        of("messageExpression"),
        or_null("reason"),
        of("fieldPath"),
        or_null("optionalOldSelf"),
    );
    let detail = format!("{shown}: {why}");
    FieldError { kind: FieldErrorKind::Invalid, field: path.to_string(), value: None, detail }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        // Never told that it exceeds by 1.0x.
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
