//! Laws of every expression: what compiles is evaluated without a panic, and stops within its budget.

use proptest::prelude::*;
use serde_json::json;

use crate::{Budget, Declaration, Env, EvalError, Expect, Value, Variables};

/// Text that may be an expression: most of it has types that fit.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("self".to_owned()),
        Just("self.n".to_owned()),
        Just("self.s".to_owned()),
        Just("self.l".to_owned()),
        Just("self.m".to_owned()),
        Just("x".to_owned()),
        Just("i".to_owned()),
        Just("'a%s'".to_owned()),
        Just("[1, 2, 3]".to_owned()),
        Just("{'k': 1}".to_owned()),
        (-3_i64..20).prop_map(|n| n.to_string()),
        Just("lists.range(50)".to_owned()),
        Just("duration('1h')".to_owned()),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let binary = ["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in"];
        let folds = ["all", "exists", "exists_one", "map", "filter", "sortBy", "optMap"];
        let calls =
            ["contains", "indexOf", "replace", "split", "join", "matches", "find", "findAll", "charAt", "format"];
        let members = ["size", "sum", "min", "max", "sort", "distinct", "reverse", "flatten", "trim", "value"];
        prop_oneof![
            (inner.clone(), prop::sample::select(binary.to_vec()), inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (inner.clone(), prop::sample::select(folds.to_vec()), inner.clone())
                .prop_map(|(a, fold, b)| format!("{a}.{fold}(i, {b})")),
            (inner.clone(), prop::sample::select(calls.to_vec()), inner.clone())
                .prop_map(|(a, call, b)| format!("{a}.{call}({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("dyn({a}).replace('', dyn({b}))")),
            (inner.clone(), prop::sample::select(members.to_vec())).prop_map(|(a, call)| format!("{a}.{call}()")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            inner.clone().prop_map(|a| format!("dyn({a})")),
            inner.prop_map(|a| format!("string({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn evaluation_ends_within_its_budget(source in expression()) {
        let schema = json!({"type": "object", "properties": {
            "n": {"type": "integer"}, "s": {"type": "string", "maxLength": 20},
            "l": {"type": "array", "maxItems": 40, "items": {"type": "integer"}},
            "m": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "integer"}},
        }});
        let declaration = Declaration::of(&schema, "selfType", false).unwrap();
        let dynamic = Env::kubernetes().declare("self", crate::Type::Dyn).declare("x", crate::Type::Dyn);
        let typed = Env::kubernetes().declare("self", declaration.ty.clone()).declare("x", crate::Type::Dyn);
        let object = json!({"n": 3, "s": "some \u{e9} text", "l": (0..40).collect::<Vec<_>>(), "m": {"k": 1, "j": 2}});
        let other = json!([1, "a", null, {"a": [1.5]}]);
        for (env, value) in [(dynamic, Value::json(&object)), (typed, Value::declared(&object, &declaration).unwrap())] {
            let Ok(program) = env.compile(&source, Expect::Any) else { continue };
            let variables = Variables::new().with("self", value).with("x", Value::json(&other));
            let mut budget = Budget::new(20_000, 20_000);
            let result = program.evaluate(&variables, &mut budget);
            let cost = 20_000 - budget.remaining();
            let is_stopped = matches!(result, Err(EvalError::CostExceeded | EvalError::BudgetExceeded));
            prop_assert!(is_stopped || cost <= 20_000, "{source}: {cost}");
            prop_assert!(!is_stopped || budget.remaining() == 0, "{source}: {cost}");
        }
    }

    #[test]
    fn any_text_is_refused_or_compiled(source in "\\PC{0,60}") {
        let env = Env::kubernetes().declare("x", crate::Type::Dyn);
        if let Ok(program) = env.compile(&source, Expect::Any) {
            let _ = program.evaluate(&Variables::new(), &mut Budget::new(1000, 1000));
        }
    }
}

/// Expressions over a typed object, such as definitions have: what they cost at most is known before. Not so, here as
/// upstream, with `startsWith` and `endsWith` (the estimate goes by the argument and the cost by the text), and with
/// numbers that are compared for equality (to the estimate a declared one has no size).
fn typed_expression() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("self.n".to_owned()),
        Just("size(self.s)".to_owned()),
        Just("self.l.sum()".to_owned()),
        Just("self.names.size()".to_owned()),
        (0..9_i64).prop_map(|n| n.to_string()),
    ];
    let text = prop_oneof![
        Just("self.s".to_owned()),
        Just("'a.b'".to_owned()),
        Just("(self.s + self.s)".to_owned()),
        Just("self.s.lowerAscii()".to_owned()),
        Just("string(self.n)".to_owned()),
        Just("self.names[0]".to_owned()),
    ];
    let order = prop::sample::select(vec!["<", ">="]);
    let comparison = prop::sample::select(vec!["==", "!=", "<", ">="]);
    let call = prop::sample::select(vec!["contains", "matches"]);
    let leaf = prop_oneof![
        (number.clone(), order, number.clone()).prop_map(|(a, compare, b)| format!("{a} {compare} {b}")),
        (text.clone(), comparison, text.clone()).prop_map(|(a, compare, b)| format!("{a} {compare} {b}")),
        (text.clone(), call).prop_map(|(a, call)| format!("{a}.{call}('ab')")),
        text.clone().prop_map(|a| format!("{a} in self.names")),
        number.clone().prop_map(|a| format!("{a} in self.l")),
        number.clone().prop_map(|a| format!("self.l.filter(e, e < {a}).size() > 1")),
        text.prop_map(|a| format!("self.names.map(e, e + {a}).exists(e, e.contains('x'))")),
        number.prop_map(|a| format!("self.l.map(e, e * {a}).exists_one(e, e > 4)")),
        Just("has(self.m.k)".to_owned()),
        Just("'k' in self.m".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let fold = prop::sample::select(vec!["self.l.all(i, ", "self.names.exists(i, ", "self.m.all(i, "]);
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["&&", "||"]), inner.clone())
                .prop_map(|(a, both, b)| format!("({a} {both} {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (fold, inner).prop_map(|(fold, a)| format!("{fold}{a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn nothing_costs_more_than_was_estimated(
        source in typed_expression(),
        n in 0..50_i64,
        text in "[a-e]{0,20}",
        list in prop::collection::vec(0..9_i64, 0..12),
        names in prop::collection::vec("[ab]{0,6}", 0..8),
        map in prop::collection::btree_map("[k-m]", 0..9_i64, 0..3),
    ) {
        let schema = json!({"type": "object", "properties": {
            "n": {"type": "integer"}, "s": {"type": "string", "maxLength": 20},
            "l": {"type": "array", "maxItems": 12, "items": {"type": "integer"}},
            "names": {"type": "array", "maxItems": 8, "items": {"type": "string", "maxLength": 6}},
            "m": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "integer"}},
        }});
        let declaration = Declaration::of(&schema, "selfType", false).unwrap();
        let env = Env::kubernetes().declare("self", declaration.ty.clone());
        let program = env.compile(&source, Expect::Any).unwrap_or_else(|error| panic!("{source}: {error}"));
        let object = json!({"n": n, "s": text, "l": list, "names": names, "m": map});
        let variables = Variables::new().with("self", Value::declared(&object, &declaration).unwrap());

        let all = u64::MAX / 2;
        let run = |limit: u64| {
            let mut budget = Budget::new(all, limit);
            let result = program.evaluate(&variables, &mut budget);
            (result.map(|value| format!("{value:?}")), all - budget.remaining())
        };
        let (result, cost) = run(all);
        let estimate = program.estimate(&[("self", &declaration)]);
        prop_assert!(cost <= estimate, "{source} of {object}: {cost} > {estimate}");
        // Exactly its cost is enough for an expression, and one less is not.
        prop_assert_eq!(run(cost), (result.clone(), cost));
        if cost > 0 {
            let (stopped, spent) = run(cost - 1);
            prop_assert_eq!(stopped, Err(EvalError::CostExceeded), "{}", source);
            prop_assert!(spent <= cost, "{source}: {spent} > {cost}");
        }
    }
}
