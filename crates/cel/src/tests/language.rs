//! The language and its standard functions (<https://github.com/google/cel-spec>).

use super::{holds, values};

#[test]
fn operators_and_literals() {
    holds(&[
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "-7 / 2 == -3 && -7 % 2 == -1",
        "7u / 2u == 3u",
        "0x1F == 31",
        "1e3 == 1000.0",
        ".5 == 0.5",
        "dyn(1) == 1.0 && dyn(1u) == 1 && 2 > 1.5",
        "1 < 2u && 2.5 > 2",
        "'a' + 'b' == \"ab\"",
        "r'\\d' == '\\\\d'",
        "'''a'b''' == \"a'b\"",
        "b'\\xff\\x00'.size() == 2",
        "'\\u00e9' == '\u{e9}' && '\\x41\\101' == 'AA'",
        "b'ab' < b'b'",
        "[1, 2] + [3] == [1, 2, 3]",
        "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
        "{1: 'a'}[dyn(1u)] == 'a'",
        "2 in [1, 2] && !(3 in [1, 2]) && 'a' in {'a': 1}",
        "true ? true : false",
        "false || true && true",
        "!!true && --1 == 1",
        "null == null && !(dyn(null) == 1)",
        "type(1) == int && type('') == string && type([1]) == list && type({}) == map && type(null) == null_type",
        "type(type(1)) == type && type(1.0) != int",
        "type(timestamp('2024-01-01T00:00:00Z')) == google.protobuf.Timestamp",
        "dyn(1) == 1 && dyn('a') != dyn(1)",
        "[1, 2, 3][1] == 2 && [[1]][0][0] == 1",
        "-9223372036854775808 < 0",
        "'abc' < 'abd' && 'b' > 'abc' && true > false",
        "1 == 1 // a comment",
    ]);
}

#[test]
fn what_fails_says_why() {
    values(&[
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("0u - 1u", "error: unsigned integer overflow"),
        ("-(-9223372036854775807 - 1)", "error: integer overflow"),
        ("[1][2]", "error: index out of bounds: 2"),
        ("{'a': 1}['b']", "error: no such key: b"),
        ("{'a': 1}.b", "error: no such key: b"),
        ("x.missing", "error: no such key: missing"),
        ("x.a + 1", "error: no such overload"),
        ("dyn(1) && true", "error: no such overload"),
        ("{'a': 1, 'a': 2}", "error: Failed with repeated key"),
        ("int('a')", "error: strconv.ParseInt: parsing \"a\": invalid syntax"),
        ("int(1e19)", "error: integer overflow"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("timestamp('9999-12-30T00:00:00Z') + duration('48h')", "error: timestamp overflow"),
    ]);
}

#[test]
fn failures_count_only_where_nothing_else_decides() {
    holds(&[
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(1 / 0 == 1 && false)",
        "[1, 0].exists(i, 1 / i == 1)",
        "[0, 1].exists(i, 1 / i == 1)",
        "![0, 2].all(i, 1 / i == 1)",
    ]);
    values(&[
        ("false || 1 / 0 == 1", "error: division by zero"),
        ("[0].all(i, 1 / i == 1)", "error: division by zero"),
        ("[1, 0].map(i, 1 / i)", "error: division by zero"),
    ]);
}

#[test]
fn macros() {
    holds(&[
        "[1, 2, 3].all(i, i > 0) && ![1, 2].all(i, i > 1)",
        "[1, 2, 3].exists(i, i == 3) && ![].exists(i, true)",
        "[1, 2, 2].exists_one(i, i == 1) && ![1, 2, 2].exists_one(i, i == 2)",
        "[1, 2].map(i, i * 2) == [2, 4]",
        "[1, 2, 3].map(i, i > 1, i * 2) == [4, 6]",
        "[1, 2, 3].filter(i, i > 1) == [2, 3]",
        "{'a': 1}.all(k, k == 'a') && {'a': 1, 'b': 2}.filter(k, k != 'a') == ['b']",
        "has(self.n) && !has({'a': 1}.b) && has(x.a)",
        "[[1], [2]].map(i, i.map(j, j + 1)) == [[2], [3]]",
        "[1, 2, 3].all(i, j, i < j)",
        "{'a': 'b'}.exists(k, v, k == 'a' && v == 'b')",
        "[1, 1, 2, 2].existsOne(i, v, i == 2 && v == 2)",
        "[1, 2, 3].transformList(i, v, i % 2 == 0, i * v + v) == [1, 9]",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 2) == {'b': 4}",
        "[5, 6].transformMap(i, v, v) == {0: 5, 1: 6}",
        "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}",
    ]);
    values(&[("{'a': 'x', 'b': 'x'}.transformMapEntry(k, v, {v: k})", "error: insert failed: key x already exists")]);
}

#[test]
fn values_of_objects_have_the_types_of_their_schema() {
    holds(&[
        "self.n == 3 && self.d == 2.0 && type(self.d) == double",
        "self.at.getFullYear() == 2024 && self.at.getMonth() == 1 && self.at.getDate() == 29",
        "self.at.getHours('America/New_York') == 7 && self.at.getHours('+02:00') == 14",
        "self.at.getMilliseconds() == 500 && self.at.getDayOfWeek() == 4 && self.at.getDayOfYear() == 59",
        "self.__for__ == duration('90m') && self.__for__.getMinutes() == 90",
        "self.raw == b'hi'",
        "self.map.one == 1 && self.map['two'] == 2 && self.map.size() == 2",
        "self.port == 'http' && type(self.port) == string",
        "self.a__dash__b__dot__c == 7 && self.__namespace__ == 'default' && self.namespace == 'default'",
        "self.set == ['y', 'x'] || self.set == ['x', 'y']",
        "self.set + ['y', 'z'] == ['x', 'y', 'z']",
        "(self.keyed + [self.keyed[1]]).size() == 2",
        "self.object.f == 1 && self.object == self.object",
        "x.a[1] == 'two' && x.a[2] == null && x.m['k-1'] == 1.5",
        "self.list.all(i, i in self.list)",
        "self.at > timestamp('2024-01-01T00:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
    ]);
}

#[test]
fn conversions() {
    values(&[
        ("string(1.0)", "\"1\""),
        ("string(1.5)", "\"1.5\""),
        ("string(1e30)", "\"1e+30\""),
        ("string(true)", "\"true\""),
        ("string(b'abc')", "\"abc\""),
        ("string(duration('90s'))", "\"90s\""),
        ("string(duration('1.5s'))", "\"1.5s\""),
        ("string(timestamp('2024-01-01T01:00:00+01:00'))", "\"2024-01-01T00:00:00Z\""),
        ("double('1.5')", "1.5"),
        ("int(-1.9)", "-1"),
        ("uint('7')", "7"),
        ("int(timestamp('1970-01-01T00:01:00Z'))", "60"),
        ("bool('true')", "true"),
        ("bytes('\u{e9}').size()", "2"),
        ("size('\u{e9}a')", "2"),
        ("timestamp(60)", "\"1970-01-01T00:01:00Z\""),
    ]);
}

#[test]
fn optionals() {
    holds(&[
        "!x.?missing.hasValue() && x.?m.hasValue()",
        "x.?m.?missing.orValue(1) == 1",
        "x.?missing.deeper.orValue(2) == 2",
        "[1][?5].orValue(7) == 7 && {'a': 1}[?'a'].value() == 1",
        "optional.of(1).or(optional.of(1 / 0)).value() == 1",
        "optional.none().orValue(3) == 3",
        "optional.ofNonZeroValue(0) == optional.none()",
        "optional.of(2).optMap(v, v * 2) == optional.of(4)",
        "!optional.none().optMap(v, v).hasValue()",
        "optional.of([1]).optFlatMap(v, v[?0]).value() == 1",
        "[?optional.none(), ?optional.of(1)] == [1]",
        "{?'a': optional.none(), 'b': 1} == {'b': 1}",
        "[optional.of(1), optional.none()].unwrapOpt() == [1]",
        "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && ![].first().hasValue()",
    ]);
}
