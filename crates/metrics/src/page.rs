//! A node's `/metrics/resource` page, in Prometheus' text format.
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>)

use std::collections::BTreeMap;

/// What was counted of a node or a container at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    pub at_ms: i64,
    pub cpu_seconds: f64,
    pub memory_bytes: u64,
    /// When a container was started, in seconds since 1970.
    pub started_s: Option<f64>,
}

/// Namespace, pod and container.
pub type Place = (String, String, String);

#[derive(Debug, Default, PartialEq)]
pub struct Page {
    pub node: Option<Reading>,
    pub containers: BTreeMap<Place, Reading>,
}

/// What was said of one thing so far.
#[derive(Default)]
struct Partial {
    cpu: Option<(f64, i64)>,
    memory: Option<f64>,
    started: Option<f64>,
}

impl Partial {
    /// Only what has both is of use.
    fn whole(&self) -> Option<Reading> {
        let ((cpu_seconds, at_ms), memory) = (self.cpu?, self.memory?);
        // Bytes are far below what a float holds exactly.
        let memory_bytes = memory.max(0.0) as u64;
        Some(Reading { at_ms, cpu_seconds, memory_bytes, started_s: self.started })
    }
}

/// Reads a page; a line that is none of ours is passed over, and `now_ms` stands for times that are not given.
pub fn parse(text: &str, now_ms: i64) -> Page {
    let (mut node, mut containers) = (Partial::default(), BTreeMap::<Place, Partial>::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels, value, at)) = sample(line) else { continue };
        let at = at.unwrap_or(now_ms);
        match name {
            "node_cpu_usage_seconds_total" => node.cpu = Some((value, at)),
            "node_memory_working_set_bytes" => node.memory = Some(value),
            "container_cpu_usage_seconds_total"
            | "container_memory_working_set_bytes"
            | "container_start_time_seconds" => {
                let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
                let (Some(namespace), Some(pod), Some(container)) =
                    (label("namespace"), label("pod"), label("container"))
                else {
                    continue;
                };
                let entry = containers.entry((namespace, pod, container)).or_default();
                match name {
                    "container_cpu_usage_seconds_total" => entry.cpu = Some((value, at)),
                    "container_memory_working_set_bytes" => entry.memory = Some(value),
                    _ => entry.started = Some(value),
                }
            }
            _ => {}
        }
    }
    let whole = |(place, partial): (Place, Partial)| Some((place, partial.whole()?));
    Page { node: node.whole(), containers: containers.into_iter().filter_map(whole).collect() }
}

type Sample<'a> = (&'a str, Vec<(&'a str, String)>, f64, Option<i64>);

/// `name{key="value",...} number [milliseconds]`.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            inside = inside.trim_start_matches([',', ' ']);
            if let Some(after) = inside.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, value) = inside.split_once("=\"")?;
            let (value, after) = quoted(value)?;
            labels.push((key, value));
            inside = after;
        }
    }
    let mut words = rest.split_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    value.is_finite().then_some((name, labels, value, words.next().and_then(|at| at.parse().ok())))
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read() {
        let text = r#"# HELP node_cpu_usage_seconds_total [STABLE] x
node_cpu_usage_seconds_total 12.5 1000
node_memory_working_set_bytes 1.5e+06 1000
container_cpu_usage_seconds_total{container="a",namespace="n",pod="p"} 4.75 2000
container_memory_working_set_bytes{container="a",namespace="n",pod="p"} 4096
container_start_time_seconds{container="a",namespace="n",pod="p"} 1.5 2000
container_cpu_usage_seconds_total{container="half",namespace="n",pod="p"} 4.75 2000
container_memory_working_set_bytes{container="b\"\\,}",namespace="n",pod="p",} NaN
other{x="y"} 3
broken{
resource_scrape_error 0
"#;
        let page = parse(text, 7);
        let node = Reading { at_ms: 1000, cpu_seconds: 12.5, memory_bytes: 1_500_000, started_s: None };
        assert_eq!(page.node, Some(node));
        let place = |name: &str| ("n".to_owned(), "p".to_owned(), name.to_owned());
        let a = Reading { at_ms: 2000, cpu_seconds: 4.75, memory_bytes: 4096, started_s: Some(1.5) };
        assert_eq!(page.containers, BTreeMap::from([(place("a"), a)]));
        assert_eq!(sample(r#"m{k="b\"\\,}"} 1"#).unwrap().1, [("k", "b\"\\,}".to_owned())]);
    }
}
