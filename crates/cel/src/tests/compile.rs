//! What is refused before it runs, in the words of cel-go.

use super::compile;

#[test]
fn faults_name_their_place() {
    let rows = [
        ("y", "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y\n | ^"),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        ("self.missing", "ERROR: <input>:1:5: undefined field 'missing'\n | self.missing\n | ....^"),
        ("self.n.foo", "ERROR: <input>:1:7: type 'int' does not support field selection\n | self.n.foo\n | ......^"),
        ("foo(1)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(1)\n | ...^"),
        (
            "self.n.contains('a')",
            "ERROR: <input>:1:16: found no matching overload for 'contains' applied to 'int.(string)'\n | self.n.contains('a')\n | ...............^",
        ),
        (
            "1 == 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, string)'\n | 1 == 'a'\n | ..^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        (
            "self.n.all(i, true)",
            "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.n.all(i, true)\n | ....^",
        ),
        (
            "[1].all(i, i)",
            "ERROR: <input>:1:8: found no matching overload for '_&&_' applied to '(bool, int)'\n | [1].all(i, i)\n | .......^",
        ),
        (
            "true ? 1 : 'a'",
            "ERROR: <input>:1:6: found no matching overload for '_?_:_' applied to '(bool, int, string)'\n | true ? 1 : 'a'\n | .....^",
        ),
        (
            "a &&\n b",
            "ERROR: <input>:1:1: undeclared reference to 'a' (in container '')\n | a &&\n | ^\nERROR: <input>:2:2: undeclared reference to 'b' (in container '')\n |  b\n | .^",
        ),
        (
            "1 does not",
            "ERROR: <input>:1:3: Syntax error: mismatched input 'does' expecting <EOF>\n | 1 does not\n | ..^",
        ),
        ("has(self)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^"),
        ("[1].all(1, true)", "ERROR: <input>:1:9: argument must be a simple name\n | [1].all(1, true)\n | ........^"),
        ("for", "ERROR: <input>:1:1: reserved identifier: for\n | for\n | ^"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"),
        ("'a'.matches('(')", "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^"),
        (
            "cel.bind(a, 1, a)",
            "ERROR: <input>:1:1: undeclared reference to 'cel' (in container '')\n | cel.bind(a, 1, a)\n | ^\nERROR: <input>:1:9: undeclared reference to 'bind' (in container '')\n | cel.bind(a, 1, a)\n | ........^\nERROR: <input>:1:10: undeclared reference to 'a' (in container '')\n | cel.bind(a, 1, a)\n | .........^\nERROR: <input>:1:16: undeclared reference to 'a' (in container '')\n | cel.bind(a, 1, a)\n | ...............^",
        ),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(source, expected)| {
            let found = compile(source).err().unwrap_or_default();
            (found != *expected).then(|| format!("{source}\n  expected {expected}\n  found    {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_too_deep_is_refused_and_what_is_long_is_not() {
    let deep = format!("{}1{}", "(".repeat(1000), ")".repeat(1000));
    assert!(compile(&deep).unwrap_err().contains("recursion limit exceeded"));
    let lists = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert!(compile(&lists).unwrap_err().contains("recursion limit exceeded"));
    let sum = vec!["1"; 1000].join(" + ");
    assert!(compile(&sum).unwrap_err().contains("recursion limit exceeded"));
    let long = vec!["self.n == 1"; 2000].join(" || ");
    assert!(compile(&long).is_ok());
    for depth in [60, 75] {
        let nested = format!("{}self.n{}", "[".repeat(depth), "]".repeat(depth));
        assert!(compile(&nested).is_ok(), "{depth}");
    }
    assert!(compile(&vec!["self.n"; 140].join(" + ")).is_ok());
}

#[test]
fn types_of_results_and_names_in_use_are_known() {
    let program = compile("self.list.map(i, string(i) + x.y)").unwrap();
    assert_eq!(program.result_type().to_string(), "list(string)");
    assert!(program.uses("self") && program.uses("x") && !program.uses("i") && !program.uses("oldSelf"));
    assert_eq!(compile("{'a': [1]}").unwrap().result_type().to_string(), "map(string, list(int))");
    assert_eq!(compile("x.?a").unwrap().result_type().to_string(), "optional_type(dyn)");
    assert_eq!(compile("[]").unwrap().result_type().to_string(), "list(dyn)");
}
