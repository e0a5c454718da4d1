//! Prometheus' text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{Display, Write as _},
};

/// One metric with its rows.
pub struct Family {
    name: Cow<'static, str>,
    kind: &'static str,
    help: Cow<'static, str>,
    rows: String,
}

impl Family {
    pub fn new(name: impl Into<Cow<'static, str>>, kind: &'static str, help: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), kind, help: help.into(), rows: String::new() }
    }

    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "counter", help)
    }

    /// A value with the time it was read, in nanoseconds since 1970; none where there was nothing to read.
    pub fn row(&mut self, labels: &str, value: Option<impl Display>, at_ns: i64) {
        if let Some(value) = value {
            let name = &self.name;
            _ = writeln!(self.rows, "{name}{labels} {value} {}", at_ns / 1_000_000);
        }
    }

    /// A value as it is now.
    pub fn now(&mut self, labels: &str, value: impl Display) {
        self.part("", labels, value);
    }

    /// One row of a histogram: `_bucket`, `_sum` or `_count`.
    pub fn part(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let name = &self.name;
        _ = writeln!(self.rows, "{name}{suffix}{labels} {value}");
    }
}

/// Families that come to be when the first row of each is written, in the order of their names.
#[derive(Default)]
pub struct Families(BTreeMap<Cow<'static, str>, Family>);

impl Families {
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, "gauge", help)
    }

    pub fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, "counter", help)
    }

    pub fn family(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        kind: &'static str,
        help: impl Into<Cow<'static, str>>,
    ) -> &mut Family {
        let name = name.into();
        self.0.entry(name.clone()).or_insert_with(|| Family::new(name, kind, help))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn page(&self) -> String {
        page(self.0.values())
    }
}

/// Families one after the other, without those that have nothing to say.
pub fn page<'a>(families: impl IntoIterator<Item = &'a Family>) -> String {
    let mut page = String::new();
    for Family { name, kind, help, rows } in families {
        if !rows.is_empty() {
            _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{rows}");
        }
    }
    page
}

/// `{key="value",...}` in the order of the keys, with quotes, backslashes and line ends in values escaped.
pub fn labels(pairs: &[(&str, &str)]) -> String {
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    let escape = |value: &str| value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_prometheus_reads_them() {
        let mut used = Family::counter("used_total", "What was used.");
        used.row(&labels(&[("pod", "p"), ("image", "a\"b\\c\nd")]), Some(1.5), 7_000_000_000);
        used.row("", None::<u64>, 0);
        let mut there = Family::new("there", "gauge", "Whether it is there.");
        there.now("", 1);
        let silent = Family::new("silent", "gauge", "Nothing.");
        let expected = "# HELP used_total What was used.\n# TYPE used_total counter\n\
                        used_total{image=\"a\\\"b\\\\c\\nd\",pod=\"p\"} 1.5 7000\n\
                        # HELP there Whether it is there.\n# TYPE there gauge\nthere 1\n";
        assert_eq!(page([&used, &silent, &there]), expected);
    }
}
