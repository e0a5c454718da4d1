//! Changing a kubeconfig as text, so that comments, order and layout of what somebody wrote by hand stay.
//!
//! This knows the layout that people and tools write (a section a line, its entries in block style below it) and
//! nothing more of YAML. So its result is only used where a real parser finds in it exactly what was wanted.

use serde_yaml::Value;

/// One change: a section's entry of our name is replaced, or goes where there is none to put in.
pub struct Change<'a> {
    pub section: &'static str,
    pub name: &'a str,
    pub entry: Option<Value>,
}

/// The text with the changes made and the scalars set; `None` where the layout is not known.
pub fn edit(text: &str, changes: &[Change<'_>], scalars: &[(&str, &str)]) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in scalars {
        set_scalar(&mut lines, key, value);
    }
    for change in changes {
        set_entry(&mut lines, change)?;
    }
    lines.push(String::new());
    Some(lines.join("\n"))
}

fn set_scalar(lines: &mut Vec<String>, key: &str, value: &str) {
    let line = format!("{key}: {}", if value.is_empty() { "\"\"" } else { value });
    match position(lines, key) {
        Some(at) => lines[at] = line,
        None => lines.push(line),
    }
}

fn set_entry(lines: &mut Vec<String>, change: &Change<'_>) -> Option<()> {
    let Change { section, name, entry } = change;
    let at = match (position(lines, section), entry) {
        (Some(at), _) => at,
        (None, None) => return Some(()),
        (None, Some(_)) => {
            lines.push(format!("{section}:"));
            lines.len() - 1
        }
    };
    let inline = lines[at][section.len() + 1..].split(" #").next().unwrap_or_default().trim();
    match inline {
        "" => {}
        "[]" | "null" | "~" => lines[at] = format!("{section}:"),
        _ => return None,
    }
    let mut end = at + 1 + lines[at + 1..].iter().take_while(|line| continues(line)).count();
    // What stands between two sections is about the second.
    while end > at + 1 && lines[end - 1].trim_start().starts_with('#') | lines[end - 1].trim().is_empty() {
        end -= 1;
    }
    let indent = lines[at + 1..end].iter().find_map(|line| line.find("- ").filter(|at| line[..*at].trim().is_empty()));
    let indent = indent.unwrap_or(0);
    let begins =
        |line: &String| line.len() > indent && line[indent..].starts_with("- ") && line[..indent].trim().is_empty();
    let starts: Vec<usize> = (at + 1..end).filter(|line| begins(&lines[*line])).collect();
    let mut kept = starts.len();
    for (number, start) in starts.iter().enumerate().rev() {
        let stop = starts.get(number + 1).copied().unwrap_or(end);
        let item: Value = serde_yaml::from_str(&lines[*start..stop].join("\n")).ok()?;
        if item.get(0).and_then(|item| item.get("name")).and_then(Value::as_str) == Some(name) {
            lines.drain(*start..stop);
            end -= stop - start;
            kept -= 1;
        }
    }
    match entry {
        Some(entry) => {
            let text = serde_yaml::to_string(std::slice::from_ref(entry)).ok()?;
            let pad = " ".repeat(indent);
            lines.splice(end..end, text.lines().map(|line| format!("{pad}{line}")));
        }
        None if kept == 0 => lines[at] = format!("{section}: []"),
        None => {}
    }
    Some(())
}

/// Where a key of the document's topmost mapping stands.
fn position(lines: &[String], key: &str) -> Option<usize> {
    lines.iter().position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
}

/// Whether a line belongs to the section above it.
fn continues(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with([' ', '#']) || line.starts_with("- ")
}
