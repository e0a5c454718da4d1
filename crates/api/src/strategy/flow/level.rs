//! PriorityLevelConfigurations: how much of the server a kind of requests may take, and what is done with the rest.

use serde_json::Value;

use super::{CATCH_ALL, EXEMPT, SPEC, conditions, default_number, fixed_level, must_be_fixed, positive};
use crate::{
    field::{FieldError, FieldPath},
    strategy::{
        defaults,
        rules::{Errors, Rules},
    },
    value::{Object, get, int, is_set, object_at, set_default, text},
};

const MAX_QUEUES: i64 = 10_000_000;
/// What a hash has left for dealing queues.
const MAX_HASH_BITS: i64 = 60;

pub(in crate::strategy) static PRIORITY_LEVEL: Rules = Rules {
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        if get(spec, "type") == "Exempt"
            && let Some(exempt) = object_at(spec, "exempt")
        {
            set_default(exempt, "nominalConcurrencyShares", 0);
            set_default(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = spec.get_mut("limited").and_then(Value::as_object_mut) {
            default_limited(limited);
        }
    },
    validate: |object, errors| {
        let spec = &object["spec"];
        let name = text(&object["metadata"]["name"]);
        if (name == EXEMPT) != (text(&spec["type"]) == "Exempt") {
            let words = "type must be 'Exempt' if and only if name is 'exempt'";
            errors.push(FieldError::invalid(&SPEC.child("type"), text(&spec["type"]), words));
        }
        by_type(spec, errors);
        mandatory(name, spec, errors);
        conditions(object, errors);
    },
    validate_update: |new, _, _, errors| {
        if errors.is_empty() {
            conditions(new, errors);
        }
    },
    ..Rules::WITH_STATUS
};

fn default_limited(limited: &mut Object) {
    set_default(limited, "nominalConcurrencyShares", 30);
    set_default(limited, "lendablePercent", 0);
    let response = limited.get_mut("limitResponse").and_then(Value::as_object_mut);
    if let Some(queuing) = response.and_then(|response| response.get_mut("queuing")?.as_object_mut()) {
        default_number(queuing, "queues", 64);
        default_number(queuing, "handSize", 8);
        default_number(queuing, "queueLengthLimit", 50);
    }
}

fn mandatory(name: &str, spec: &Value, errors: &mut Errors) {
    let Some(mut fixed) = fixed_level(name) else { return };
    if name == CATCH_ALL {
        return must_be_fixed(spec, &fixed, format!("spec of '{name}' must equal the fixed value"), errors);
    }
    fixed["exempt"] = spec["exempt"].clone();
    let words = format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
    must_be_fixed(spec, &fixed, words, errors);
}

fn by_type(spec: &Value, errors: &mut Errors) {
    let (exempt, limited) = (SPEC.child("exempt"), SPEC.child("limited"));
    match text(&spec["type"]) {
        "Exempt" => {
            if is_set(&spec["limited"]) {
                errors.push(FieldError::forbidden(&limited, "must be nil if the type is not Limited"));
            }
            if is_set(&spec["exempt"]) {
                shares(&spec["exempt"], &exempt, errors);
            }
        }
        "Limited" => {
            if is_set(&spec["exempt"]) {
                errors.push(FieldError::forbidden(&exempt, "must be nil if the type is Limited"));
            }
            if is_set(&spec["limited"]) {
                shares(&spec["limited"], &limited, errors);
                check_limited(&spec["limited"], &limited, errors);
            } else {
                errors.push(FieldError::required(&limited, "must not be empty when type is Limited"));
            }
        }
        other => errors.push(FieldError::not_supported(&SPEC.child("type"), other, &["Exempt", "Limited"])),
    }
}

fn shares(part: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let shares = &part["nominalConcurrencyShares"];
    if int(shares) < 0 {
        let at = path.child("nominalConcurrencyShares");
        errors.push(FieldError::invalid(&at, shares.clone(), "must be a non-negative integer"));
    }
    let lendable = &part["lendablePercent"];
    if !(0..=100).contains(&int(lendable)) {
        let at = path.child("lendablePercent");
        errors.push(FieldError::invalid(&at, lendable.clone(), "must be between 0 and 100, inclusive"));
    }
}

fn check_limited(limited: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let borrowing = &limited["borrowingLimitPercent"];
    if int(borrowing) < 0 {
        let at = path.child("borrowingLimitPercent");
        errors.push(FieldError::invalid(&at, borrowing.clone(), "if specified, must be a non-negative integer"));
    }
    let (response, at) = (&limited["limitResponse"], path.child("limitResponse"));
    let (queuing, at_queuing) = (&response["queuing"], at.child("queuing"));
    match text(&response["type"]) {
        "Reject" => {
            if is_set(queuing) {
                let words = "must be nil if limited.limitResponse.type is not Limited";
                errors.push(FieldError::forbidden(&at_queuing, words));
            }
        }
        "Queue" => {
            if is_set(queuing) {
                check_queuing(queuing, &at_queuing, errors);
            } else {
                let words = "must not be empty if limited.limitResponse.type is Limited";
                errors.push(FieldError::required(&at_queuing, words));
            }
        }
        other => errors.push(FieldError::not_supported(&at.child("type"), other, &["Queue", "Reject"])),
    }
}

fn check_queuing(queuing: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    positive(&queuing["queueLengthLimit"], &path.child("queueLengthLimit"), errors);
    let (queues, at) = (int(&queuing["queues"]), path.child("queues"));
    if positive(&queuing["queues"], &at, errors) && queues > MAX_QUEUES {
        errors.push(FieldError::invalid(&at, queues, format!("must not be greater than {MAX_QUEUES}")));
    }
    let (hand, at) = (int(&queuing["handSize"]), path.child("handSize"));
    if !positive(&queuing["handSize"], &at, errors) {
        return;
    }
    if hand > queues {
        errors.push(FieldError::invalid(&at, hand, format!("should not be greater than queues ({queues})")));
    } else if required_bits(queues, hand) > MAX_HASH_BITS {
        let words = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        );
        errors.push(FieldError::invalid(&at, hand, words));
    }
}

/// How much of a hash it takes to deal `hand` of `deck` queues; a little more than it really is.
fn required_bits(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}
