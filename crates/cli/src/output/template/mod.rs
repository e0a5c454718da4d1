//! Go templates as kubectl's users write them: pipelines, variables, `if`, `range`, `with`, and the functions of Go's
//! `text/template` and of kubectl. Templates inside templates (`define`, `block`) are refused.

mod functions;
mod parse;
mod run;

use serde_json::Value;

use parse::Node;

/// A value as Go's `%v` prints it.
pub fn shown(value: &Value) -> String {
    functions::shown(Some(value))
}

#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { nodes: parse::parse(text)? })
    }

    pub fn print(&self, data: &Value) -> Result<String, String> {
        run::run(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_print_what_go_prints() {
        let data = json!({"kind": "List", "n": 3, "z": 0, "s": "aGk=", "items": [
            {"metadata": {"name": "a", "labels": {"app": "x", "b": "y"}}}, {"metadata": {"name": "b"}}]});
        for (template, expected) in [
            ("{{.kind}}", "List"),
            ("{{range .items}}{{.metadata.name}} {{end}}", "a b "),
            ("{{range $i, $e := .items}}{{$i}}={{$e.metadata.name}};{{end}}", "0=a;1=b;"),
            ("{{range $k, $v := (index .items 0).metadata.labels}}{{$k}}:{{$v}},{{end}}", "app:x,b:y,"),
            ("{{if eq .kind \"List\"}}yes{{else}}no{{end}}", "yes"),
            ("{{if and .z .n}}yes{{else if .n}}n{{else}}no{{end}}", "n"),
            ("{{with .none}}x{{else}}none{{end}}", "none"),
            ("{{.none}}", "<no value>"),
            ("{{len .items}} {{.n}}", "2 3"),
            ("{{.s | base64decode}}", "hi"),
            ("{{printf \"%-4s|%v|%q\" .kind .n .kind}}", "List|3|\"List\""),
            ("{{ .kind -}}  \n {{- \"!\" }}", "List!"),
            ("{{/* nothing */}}{{$x := .n}}{{$x = 4}}{{$x}}", "4"),
            ("{{(index .items 1).metadata.name | printf \"%s-%s\" \"p\"}}", "p-b"),
            ("{{range .none}}x{{else}}empty{{end}}", "empty"),
            ("{{range .items}}{{if eq .metadata.name \"b\"}}{{break}}{{end}}{{.metadata.name}}{{end}}", "a"),
            ("{{if exists . \"items\"}}{{\"has\\n\"}}{{end}}", "has\n"),
            ("{{.items}}", "[map[metadata:map[labels:map[app:x b:y] name:a]] map[metadata:map[name:b]]]"),
            ("{{not true}} {{lt 1 2}} {{ne \"a\" \"b\"}} {{or 0 \"\" \"c\"}}", "false true true c"),
        ] {
            assert_eq!(Template::parse(template).and_then(|t| t.print(&data)).as_deref(), Ok(expected), "{template}");
        }
        for template in ["{{", "{{if .x}}", "{{end}}", "{{nofunc 1}}", "{{.none.a}}", "{{index .items 9}}", "{{$y}}"] {
            let printed = Template::parse(template).and_then(|t| t.print(&data));
            assert!(printed.is_err(), "{template}: {printed:?}");
        }
        let printed = |text: &str| Template::parse(text).and_then(|template| template.print(&data));
        assert_eq!(printed("{{range 3}}x{{end}}").as_deref(), Ok("xxx"));
        assert!(printed("{{range 999999999999}}x{{end}}").is_err());
        assert!(printed("{{range 50000}}{{range 3}}x{{end}}{{end}}").is_err(), "together they are too many");
        assert_eq!(
            printed(r#"{{printf "%99999999999999s%999999999.999999999f" "a" 1.5}}"#).map(|text| text.len()),
            Ok(20_002)
        );
        for (open, close) in [("{{if 1}}", "{{end}}"), ("{{if 1}}x{{else if 2}}", "{{end}}")] {
            assert!(Template::parse(&(open.repeat(10_000) + &close.repeat(10_000))).is_err(), "{open}");
        }
        assert!(Template::parse(&format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000))).is_err());
    }
}
