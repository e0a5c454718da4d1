//! What definitions are let in for: the numbers of cel-go's estimates over schemas with and without bounds.

use serde_json::json;

use crate::{Declaration, Env, Expect};

fn estimate(schema: &serde_json::Value, source: &str) -> u64 {
    let declaration = Declaration::of(schema, "selfType", false).unwrap();
    let env = Env::kubernetes().declare("self", declaration.ty.clone());
    env.compile(source, Expect::Any).unwrap().estimate(&[("self", &declaration)])
}

#[test]
fn bounds_of_the_schema_bound_the_cost() {
    let text = |max: u64| json!({"type": "string", "maxLength": max});
    let list = |max: u64, items| json!({"type": "array", "maxItems": max, "items": items});
    let number = json!({"type": "integer"});
    let object = json!({"type": "object", "properties": {"a": number, "s": text(10), "l": list(5, text(10))}});
    let rows = [
        (number.clone(), "true", 0),
        (number.clone(), "self > 1", 2),
        (number.clone(), "self == 1", 1),
        (object.clone(), "self.a > 1 && self.a < 5", 6),
        (object.clone(), "has(self.a)", 1),
        (object.clone(), "self.s == 'abc'", 3),
        (object.clone(), "self.s.startsWith('0123456789')", 3),
        // Forty bytes at most, as ten characters can be.
        (object.clone(), "self.s.contains('ab')", 2 + 4),
        (object.clone(), "self.s + self.s == 'x'", 4 + 8 + 1),
        (object.clone(), "self.l.all(x, x.size() > 1)", 2 + 5 * (2 + 1 + 3) + 1),
        (object.clone(), "self.l.exists(x, x == 'a')", 2 + 5 * (3 + 1 + 2) + 1),
        (object.clone(), "self.l.map(x, x.size())", 2 + 10 + 5 * (12 + 2) + 1),
        (object.clone(), "self.l.filter(x, true).size() == 1", 2 + 10 + 5 * 13 + 1 + 1 + 1),
        (object.clone(), "self.a > 1 ? self.s == 'a' : true", 3 + 3),
        (object.clone(), "'a' in self.l", 2 + 5),
        (list(10, number.clone()), "self.sum() > 1", 1 + 10 + 1),
        (list(10, text(5)), "self.isSorted()", 1 + 10 * 3),
        (list(10, number.clone()), "self.sort() == self", 1 + 211 + 1 + 1),
        (list(3, list(4, number.clone())), "self.all(x, x.all(y, y > 0))", 1 + 3 * (3 + 1 + 4 * 5 + 1) + 1),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .map(|(schema, source, expected)| (source, *expected, estimate(schema, source)))
        .filter(|(_, expected, found)| expected != found)
        .map(|(source, expected, found)| format!("{source}: expected {expected}, found {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Measured against upstream 0.36: the largest `maxItems` that is let in for these lengths, and one more, which is not.
#[test]
fn the_limit_lies_where_upstream_has_it() {
    for (length, most) in [(16, 909_090), (63, 333_333), (253, 94_339), (1024, 24_154)] {
        let cost = |items: u64| {
            let schema = json!({"type": "array", "maxItems": items, "items": {"type": "string", "maxLength": length}});
            estimate(&schema, "self.all(x, x.contains('gpu'))")
        };
        assert!(cost(most) <= 10_000_000, "{length}: {}", cost(most));
        assert!(cost(most + 1) > 10_000_000, "{length}: {}", cost(most + 1));
    }
    let unbounded = json!({"type": "array", "items": {"type": "string"}});
    assert!(estimate(&unbounded, "self.all(x, x.contains('gpu'))") > 1_000_000_000);
}
