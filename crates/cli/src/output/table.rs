//! Tables as the server makes them and `get` shows them.

use serde_json::Value;

use crate::{
    cx::{dig, dig_str, items},
    discovery::Resource,
    tabs,
};

/// Which columns beside the server's own, and which of those.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub wide: bool,
    pub headers: bool,
    pub namespace: bool,
    pub kind: bool,
    pub show_labels: bool,
    pub label_columns: Vec<String>,
    /// A column before all others that says what happened.
    pub events: bool,
}

/// Rows of one kind that are aligned with each other.
#[derive(Default)]
pub struct Rows {
    header: Vec<String>,
    lines: Vec<Vec<String>>,
    widths: Vec<usize>,
    header_done: bool,
}

impl Rows {
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds the rows of a table; those of a watch may come without the definition of their columns.
    pub fn add(&mut self, table: &Value, look: &Look, resource: &Resource, event: Option<&str>) {
        if table["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()) {
            self.header = header(table, look);
        }
        let shown: Vec<bool> = items(&table["columnDefinitions"])
            .map(|column| look.wide || column["priority"].as_i64().unwrap_or(0) == 0)
            .collect();
        for row in items(&table["rows"]) {
            let metadata = dig(&row["object"], "metadata");
            let mut line = Vec::new();
            if look.events {
                line.push(event.unwrap_or("ADDED").to_owned());
            }
            if look.namespace {
                line.push(metadata["namespace"].as_str().unwrap_or_default().to_owned());
            }
            for (at, value) in items(&row["cells"]).enumerate() {
                if !shown.get(at).copied().unwrap_or(true) {
                    continue;
                }
                let text = cell(value);
                line.push(if at == 0 && look.kind { format!("{}/{text}", resource.kind_name()) } else { text });
            }
            let labels = &metadata["labels"];
            for label in &look.label_columns {
                line.push(labels[label].as_str().unwrap_or_default().to_owned());
            }
            if look.show_labels {
                line.push(labels_text(labels));
            }
            self.lines.push(line);
        }
    }

    /// The rows since the last call. Columns never get narrower, so that the rows of a watch stay aligned.
    pub fn take(&mut self, look: &Look) -> String {
        let mut text = String::new();
        let mut lines = std::mem::take(&mut self.lines);
        if look.headers && !self.header_done && !lines.is_empty() {
            lines.insert(0, self.header.clone());
            self.header_done = true;
        }
        for line in &lines {
            self.widths.resize(self.widths.len().max(line.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(line) {
                let needed = (cell.chars().count() + tabs::TABLE.padding).max(tabs::TABLE.min_width);
                *width = needed.max(*width);
            }
        }
        for line in &lines {
            for (at, cell) in line.iter().enumerate() {
                text.push_str(cell);
                if at + 1 < line.len() {
                    text.extend(std::iter::repeat_n(' ', self.widths[at].saturating_sub(cell.chars().count())));
                }
            }
            text.push('\n');
        }
        text
    }
}

fn header(table: &Value, look: &Look) -> Vec<String> {
    let own = items(&table["columnDefinitions"])
        .filter(|column| look.wide || column["priority"].as_i64().unwrap_or(0) == 0)
        .map(|column| dig_str(column, "name").to_uppercase());
    let labels = look.label_columns.iter().map(|label| label.rsplit('/').next().unwrap_or(label).to_uppercase());
    let event = look.events.then(|| "EVENT".to_owned());
    let namespace = look.namespace.then(|| "NAMESPACE".to_owned());
    let show_labels = look.show_labels.then(|| "LABELS".to_owned());
    event.into_iter().chain(namespace).chain(own).chain(labels).chain(show_labels).collect()
}

fn cell(value: &Value) -> String {
    match value {
        // A cell is one line; what does not fit is hinted at.
        Value::String(text) => match text.split_once(['\n', '\r', '\u{c}']) {
            Some((first, _)) => format!("{first}..."),
            None => text.clone(),
        },
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// `a=1,b=2`, or `<none>`.
pub fn labels_text(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let text: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if text.is_empty() { "<none>".into() } else { text.join(",") }
}
