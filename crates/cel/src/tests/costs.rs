//! Costs are cel-go's, so that the limits of Kubernetes mean the same here.

use super::evaluate;

#[test]
fn costs_are_counted_in_the_units_of_cel_go() {
    let rows = [
        ("true", 0),
        ("self", 1),
        ("self.n", 2),
        ("self.object.f", 3),
        ("self.list[0]", 3),
        ("has(self.n)", 1),
        ("1 + 2", 1),
        ("self.n == 3", 3),
        ("self.n > 1 && self.n < 5", 6),
        ("self.n > 1 || self.n < 5", 3),
        ("!self.b", 3),
        ("[1, 2, 3]", 0),
        ("[self.n]", 12),
        ("{'a': self.n}", 32),
        ("self.n in [1, 2, 3]", 2),
        ("self.n in self.list", 7),
        ("duration('1s') > duration('2s')", 1),
        ("'0123456789' == '0123456789'", 1),
        ("'0123456789' + '0123456789'", 2),
        ("'012345678901'.contains('012345678901')", 4),
        ("'012345678901'.matches('0123')", 2),
        ("'0123456789'.lowerAscii()", 1),
        // range 2, then (condition 2, accumulator 1, predicate 2) for each, and the result
        ("self.list.all(i, i > 0)", 2 + 3 * 5 + 1),
        ("self.list.exists(i, i > 5)", 2 + 3 * 6 + 1),
        ("self.list.exists(i, i == 1)", 2 + 6 + 3 + 1),
        ("self.list.map(i, i * 2)", 2 + 3 * 14 + 1),
        ("self.list.filter(i, i > 5)", 2 + 3 * 2 + 1),
        ("[1, 2, 3].sum()", 3),
        ("['abc', 'def'].isSorted()", 0),
        ("lists.range(5)", 16),
        ("sets.contains([1, 2], [1])", 3),
        ("[3, 1].sort()", 19),
        ("quantity('1Gi').isGreaterThan(quantity('1Mi'))", 3),
        ("ip('127.0.0.1').family()", 2),
        ("true ? self : self", 0),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(source, expected)| {
            let (value, found) = evaluate(source);
            (found != *expected).then(|| format!("{source} = {value}\n  expected {expected}, found {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_costs_too_much_stops() {
    let range = "lists.range(1000)";
    let nested = format!("{range}.all(a, {range}.all(b, {range}.all(c, a + b + c >= 0)))");
    let (text, cost) = evaluate(&nested);
    assert_eq!(text, "stopped: operation cancelled: actual cost limit exceeded");
    assert!(cost > 1_000_000 && cost < 1_010_000, "{cost}");
}
