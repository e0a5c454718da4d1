//! JSONPath as kubectl has it: text with `{...}` in between; paths with filters, slices, unions, `..` and `range`.
//! (<https://kubernetes.io/docs/reference/kubectl/jsonpath/>)

mod parse;
mod run;

use std::borrow::Cow;

use serde_json::Value;

pub use run::order;

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Root,
    Field(String),
    /// `..`
    Descend,
    /// `*`
    All,
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Index(i64),
    Union(Vec<Step>),
    Filter(Operand, Option<(Compare, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
pub struct JsonPath {
    nodes: Vec<Node>,
}

type Result<T> = std::result::Result<T, String>;

/// Each value found by `..` is printed with all that is below it, which `..` finds too.
const MAX_PRINTED: usize = 256 << 20;

impl JsonPath {
    /// A template: text with expressions in braces.
    pub fn parse(template: &str) -> Result<Self> {
        Ok(Self { nodes: parse::template(template)? })
    }

    /// One path, with or without braces and leading dot, as `--sort-by` and custom columns take it.
    pub fn relaxed(path: &str) -> Result<Self> {
        let inner = path.strip_prefix('{').map_or(Some(path), |rest| rest.strip_suffix('}'));
        let bad = || {
            "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"
                .to_owned()
        };
        let inner = inner.ok_or_else(bad)?;
        if inner.is_empty() {
            return Ok(Self { nodes: Vec::new() });
        }
        let dot = if inner.starts_with(['.', '[', '$', '@']) { "" } else { "." };
        Self::parse(&format!("{{{dot}{inner}}}"))
    }

    /// What every expression found, one list each.
    pub fn find<'d>(&self, data: &'d Value, missing_ok: bool) -> Result<Vec<Vec<Cow<'d, Value>>>> {
        run::find(&self.nodes, data, missing_ok)
    }

    pub fn print(&self, data: &Value, missing_ok: bool) -> Result<String> {
        let mut printed = String::new();
        for values in self.find(data, missing_ok)? {
            for (at, value) in values.iter().enumerate() {
                printed.push_str(if at == 0 { "" } else { " " });
                printed.push_str(&text(value));
                if printed.len() > MAX_PRINTED {
                    return Err(format!("more than {} MiB are printed", MAX_PRINTED >> 20));
                }
            }
        }
        Ok(printed)
    }
}

/// A value as a template shows it: strings bare, parts of objects as JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_find_what_kubectl_finds() {
        let data = json!({"kind": "List", "n": 3, "items": [
            {"metadata": {"name": "a", "labels": {"app.k8s/x": "1"}}, "size": 5, "on": true},
            {"metadata": {"name": "b"}, "size": 10, "ports": [{"name": "http", "port": 80}]}]});
        for (template, expected) in [
            ("kind is {.kind}!", "kind is List!"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.labels.app\\.k8s/x}", "1"),
            ("{.items[0].metadata.labels['app\\.k8s/x']}", "1"),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{.size}{\"\\n\"}{end}", "a\t5\nb\t10\n"),
            ("{.items[?(@.size>5)].metadata.name}", "b"),
            ("{.items[?(@.metadata.name==\"a\")].size}", "5"),
            ("{.items[?(@.on==true)].size}", "5"),
            ("{.items[?(@.ports)].metadata.name}", "b"),
            ("{.items[-1:].metadata.name}", "b"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0,1].metadata.name}", "a b"),
            ("{.items.[1].metadata.name}", "b"),
            ("{.items[0:1].metadata.name}", "a"),
            ("{.items[::2].metadata.name}", "a"),
            ("{.items[?(@.size<=5)].metadata.name}", "a"),
            ("{.items[?(@.metadata.name!='a')].size}", "10"),
            ("{.items[?(@.on!=false)].size}", "5"),
            ("{.items[0].missing.more}", ""),
            ("{..name}", "a b http"),
            ("{.items[*]['metadata.name', 'size']}", "5 10"),
            ("{.items[1].ports}", "[{\"name\":\"http\",\"port\":80}]"),
            ("{.missing}", ""),
            ("{$.n} {@.n}", "3 3"),
            ("plain", "plain"),
        ] {
            let printed = JsonPath::parse(template).and_then(|path| path.print(&data, true));
            assert_eq!(printed.as_deref(), Ok(expected), "{template}");
        }
        for template in [
            "{.a",
            "{end}",
            "{range .x}",
            "{.items[5]}",
            "{.n[0]}",
            "{foo}",
            "{.items[?(@.a]}",
            "{.items[}",
            "{.items[a]}",
            "{.items[1:2:3:4]}",
        ] {
            let printed = JsonPath::parse(template).and_then(|path| path.print(&data, true));
            assert!(printed.is_err(), "{template}: {printed:?}");
        }
        assert_eq!(JsonPath::parse("{.x}").and_then(|p| p.print(&data, false)), Err("x is not found".into()));
        for path in ["kind", ".kind", "{kind}", "{.kind}"] {
            assert_eq!(JsonPath::relaxed(path).and_then(|p| p.print(&data, false)).as_deref(), Ok("List"), "{path}");
        }
    }

    #[test]
    fn templates_have_bounds() {
        let nested = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
        for template in [nested("{range .x}", "{end}"), format!("{{{}}}", nested(".a[?(@", ")]"))] {
            assert!(JsonPath::parse(&template).is_err(), "{}", &template[..20]);
        }
        let deep = (0..60).fold(json!(1), |inner, _| json!([inner, []]));
        let path = JsonPath::parse("{..[*]..[*]..[*]..[*]..[*]..[*]..[*]..[*]}").unwrap();
        assert_eq!(path.find(&deep, true), Err("more than 2000000 values are found".to_owned()));
        // Few at any time, and many in all.
        let path = JsonPath::parse(&format!("{{{}}}", "..".repeat(80))).unwrap();
        assert_eq!(path.find(&json!([[[[[1]]]]]), true), Err("more than 20000000 values are looked at".to_owned()));
    }
}
