//! The part of JSONPath that kubectl and printer columns know
//! (<https://kubernetes.io/docs/reference/kubectl/jsonpath/>).

use std::cmp::Ordering;

use serde_json::Value;

use super::format;
use crate::value::items;

/// A path that was read once, for any number of objects.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// `[0]`, `[-1]`
    Index(i64),
    /// `[1:3]`, `[::2]`
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        by: usize,
    },
    /// `[*]`
    Every,
    /// `..name`: at any depth, `*` being everything.
    Anywhere(String),
    /// `['a','b']`, `[0,2]`
    Each(Vec<Step>),
    /// `[?(@.type=="Ready")]`; without a comparison, that the field is there.
    Where {
        field: Vec<Step>,
        is: Option<(Vec<Ordering>, String)>,
    },
}

impl JsonPath {
    /// `.status.conditions[?(@.type=="Ready")].status`, in braces or without; `None` for what is no path.
    pub fn parse(path: &str) -> Option<JsonPath> {
        let inside = path.trim().trim_start_matches('{').trim_end_matches('}').trim();
        steps(inside.strip_prefix('$').unwrap_or(inside)).map(JsonPath)
    }

    /// Everything that the path leads to; nulls are as good as missing.
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        follow(object, &self.0)
    }
}

fn follow<'a>(object: &'a Value, path: &[Step]) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in path {
        found = found.into_iter().flat_map(|value| take(value, step)).filter(|value| !value.is_null()).collect();
    }
    found
}

fn take<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
        Step::Index(index) => {
            let list = items(value);
            let index = if *index < 0 { list.len() as i64 + index } else { *index };
            usize::try_from(index).ok().and_then(|index| list.get(index)).into_iter().collect()
        }
        Step::Slice { from, to, by } => {
            let list = items(value);
            let place = |index: i64| {
                let index = if index < 0 { list.len() as i64 + index } else { index };
                index.clamp(0, list.len() as i64) as usize
            };
            let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(i64::MAX)));
            list.get(from..to).unwrap_or_default().iter().step_by(*by).collect()
        }
        Step::Every => children(value),
        Step::Anywhere(name) => {
            let own = if name == "*" { children(value) } else { value.get(name.as_str()).into_iter().collect() };
            own.into_iter().chain(children(value).into_iter().flat_map(|child| take(child, step))).collect()
        }
        Step::Each(steps) => steps.iter().flat_map(|step| take(value, step)).collect(),
        Step::Where { field, is } => items(value).iter().filter(|one| holds(one, field, is.as_ref())).collect(),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// What has no such field fails every comparison.
fn holds(one: &Value, field: &[Step], is: Option<&(Vec<Ordering>, String)>) -> bool {
    let found = follow(one, field);
    let Some(found) = found.first() else { return false };
    let Some((orders, wanted)) = is else { return true };
    let order = match (found.as_f64(), wanted.parse::<f64>()) {
        (Some(found), Ok(wanted)) => found.total_cmp(&wanted),
        _ => format::scalar(found, "").as_str().cmp(wanted),
    };
    orders.contains(&order)
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after)?;
            steps.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
        } else if let Some(after) = rest.strip_prefix("..") {
            let (name, after) = field_name(after);
            steps.push(Step::Anywhere(Some(name).filter(|name| !name.is_empty())?));
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            // A bracket may follow a dot: `.list.[0]`.
            if rest.starts_with('[') {
                continue;
            }
            let (name, after) = field_name(rest);
            match name.as_str() {
                "" if after.is_empty() && steps.is_empty() => {}
                "" => return None,
                "*" => steps.push(Step::Every),
                _ => steps.push(Step::Field(name)),
            }
            rest = after;
        }
    }
    Some(steps)
}

/// A name up to the next dot or bracket; a backslash keeps the character after it.
fn field_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes, quotes and inner brackets left aside.
fn closing(text: &str) -> Option<usize> {
    outside(text, |depth, c| c == ']' && depth == 0).next()
}

/// Where characters are that stand in no quotes and that `wanted` takes at their depth of brackets.
fn outside(text: &str, wanted: impl Fn(usize, char) -> bool) -> impl Iterator<Item = usize> {
    let (mut depth, mut quote) = (0_usize, None);
    text.char_indices().filter_map(move |(i, c)| {
        let found = quote.is_none() && wanted(depth, c);
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        found.then_some(i)
    })
}

fn unquoted(text: &str) -> Option<&str> {
    let text = text.trim();
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn bracket(inside: &str) -> Option<Step> {
    let inside = inside.trim();
    if let Some(filter) = inside.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        return condition(filter);
    }
    let commas: Vec<usize> = outside(inside, |depth, c| c == ',' && depth == 0).collect();
    if !commas.is_empty() {
        let ends = commas.iter().copied().chain([inside.len()]);
        let starts = [0].into_iter().chain(commas.iter().map(|comma| comma + 1));
        let each: Option<Vec<Step>> = starts.zip(ends).map(|(start, end)| bracket(&inside[start..end])).collect();
        return each.map(Step::Each);
    }
    if inside == "*" {
        return Some(Step::Every);
    }
    if let Some(name) = unquoted(inside) {
        return Some(Step::Field(name.to_owned()));
    }
    if inside.contains(':') {
        let parts: Vec<&str> = inside.split(':').map(str::trim).collect();
        let number = |at: usize| match parts.get(at).copied().unwrap_or_default() {
            "" => Some(None),
            text => text.parse::<i64>().ok().map(Some),
        };
        let by = usize::try_from(number(2)?.unwrap_or(1)).ok().filter(|by| *by > 0)?;
        return (parts.len() <= 3).then_some(Step::Slice { from: number(0)?, to: number(1)?, by });
    }
    inside.parse().ok().map(Step::Index)
}

fn condition(filter: &str) -> Option<Step> {
    use Ordering::{Equal, Greater, Less};
    let path = |text: &str| steps(text.trim().strip_prefix('@')?);
    let Some(at) = outside(filter, |depth, c| depth == 0 && matches!(c, '=' | '!' | '<' | '>')).next() else {
        return Some(Step::Where { field: path(filter)?, is: None });
    };
    let (left, right) = filter.split_at(at);
    let operators: [(&str, &[Ordering]); 6] = [
        ("==", &[Equal]),
        ("!=", &[Less, Greater]),
        ("<=", &[Less, Equal]),
        (">=", &[Greater, Equal]),
        ("<", &[Less]),
        (">", &[Greater]),
    ];
    let (value, orders) = operators.iter().find_map(|(sign, orders)| Some((right.strip_prefix(sign)?, orders)))?;
    let value = unquoted(value).unwrap_or(value.trim()).to_owned();
    Some(Step::Where { field: path(left)?, is: Some((orders.to_vec(), value)) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_what_kubectl_finds() {
        let object = json!({
            "spec": {"replicas": 3, "a.b": "dotted", "list": [{"n": 1}, {"n": 2}, {"n": 3}], "map": {"k": true}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other"}]},
        });
        let rows = [
            (".spec.replicas", json!([3])),
            ("{.spec.replicas}", json!([3])),
            ("$.spec.replicas", json!([3])),
            (".spec.a\\.b", json!(["dotted"])),
            (".spec['a.b']", json!(["dotted"])),
            (".spec.list[1].n", json!([2])),
            (".spec.list.[1].n", json!([2])),
            (".spec.list[-1].n", json!([3])),
            (".spec.list[9].n", json!([])),
            (".spec.list[*].n", json!([1, 2, 3])),
            (".spec.list[0:2].n", json!([1, 2])),
            (".spec.list[1:].n", json!([2, 3])),
            (".spec.list[::2].n", json!([1, 3])),
            (".spec.list[0,2].n", json!([1, 3])),
            (".spec['replicas','a.b']", json!([3, "dotted"])),
            ("..n", json!([1, 2, 3])),
            (".spec.list[?(@.n>1)].n", json!([2, 3])),
            (".spec.list[?(@.n<=1)].n", json!([1])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type!='Ready')].type", json!(["Other"])),
            (".status.conditions[?(@.status!='False')].type", json!(["Ready"])),
            (".status.conditions[?(@.status)].type", json!(["Ready"])),
            (".spec.missing.more", json!([])),
        ];
        for (path, expected) in rows {
            let path_read = JsonPath::parse(path).unwrap();
            assert_eq!(json!(path_read.find(&object)), expected, "{path}");
        }
        for path in [".spec[", ".spec[a]", ".a..", ".spec[?(n>1)]", ".a.[1:2:3:4]"] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}
