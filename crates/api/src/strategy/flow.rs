//! Priority and fairness of requests.
//! (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>)

use super::{check, defaults, rules::Rules};
use crate::{
    field::FieldPath,
    meta::names,
    value::{get, object_at, set_default},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static PRIORITY_LEVEL: Rules = Rules {
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        if get(spec, "type") == "Limited"
            && let Some(limited) = object_at(spec, "limited")
        {
            set_default(limited, "nominalConcurrencyShares", 30);
            set_default(limited, "lendablePercent", 0);
            if let Some(response) = object_at(limited, "limitResponse") {
                set_default(response, "type", "Reject");
                if get(response, "type") == "Queue"
                    && let Some(queuing) = object_at(response, "queuing")
                {
                    set_default(queuing, "queues", 64);
                    set_default(queuing, "handSize", 8);
                    set_default(queuing, "queueLengthLimit", 50);
                }
            }
        } else if get(spec, "type") == "Exempt"
            && let Some(exempt) = object_at(spec, "exempt")
        {
            set_default(exempt, "nominalConcurrencyShares", 0);
            set_default(exempt, "lendablePercent", 0);
        }
    },
    validate: |object, errors| {
        check::one_of(&object["spec"]["type"], &["Exempt", "Limited"], &SPEC.child("type"), errors);
    },
    ..Rules::WITH_STATUS
};

pub(super) static FLOW_SCHEMA: Rules = Rules {
    default: |object| {
        if let Some(spec) = defaults::spec(object) {
            set_default(spec, "matchingPrecedence", 1000);
        }
    },
    validate: |object, errors| {
        let spec = &object["spec"];
        check::in_range(&spec["matchingPrecedence"], 1, 10_000, &SPEC.child("matchingPrecedence"), errors);
        let level = SPEC.child("priorityLevelConfiguration");
        check::name(&spec["priorityLevelConfiguration"]["name"], names::subdomain, &level.child("name"), errors);
    },
    ..Rules::WITH_STATUS
};
