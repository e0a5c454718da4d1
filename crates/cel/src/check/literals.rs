//! Literals that can only fail are faults: a duration, a time or a pattern that is none.

use super::Checker;
use crate::{
    ast::{Call, Kind},
    library::time,
    regexp,
    value::Value,
};

impl Checker<'_> {
    pub(super) fn literal_faults(&mut self, name: &str, call: &Call) {
        let Some(last) = call.args.last() else { return };
        let Kind::Literal(Value::String(text)) = &last.kind else { return };
        let is_wrong = match (name, call.args.len(), call.target.is_some()) {
            ("duration", 1, false) => time::duration(text).is_err(),
            ("timestamp", 1, false) => time::timestamp(text).is_err(),
            ("matches", 1, true) | ("matches", 2, false) => regexp::compile(text).is_err(),
            _ => false,
        };
        if is_wrong {
            self.fault(last.at, format!("invalid {name} argument"));
        }
    }
}
