//! Which field number of which protobuf message is which field: read out of the sources of the `k8s-pb` crate,
//! whose structs carry upstream's `.proto` files in their attributes. JSON names are not here: the schema table
//! has them, and names of both are told apart by letters alone.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};

type Messages = BTreeMap<String, Vec<String>>;

/// Prints the table for the source directory that the arguments name.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [path] = arguments else { bail!("name one directory: the `src` of the k8s-pb crate") };
    let mut messages = Messages::new();
    read_directory(Path::new(path), &mut Vec::new(), &mut messages)?;
    if messages.is_empty() {
        bail!("there are no messages below {path}");
    }
    println!(
        "# message\tnumber name type ... ; s string, b bytes, i integer, o boolean, d double, =message; * list, % map"
    );
    for (name, fields) in messages {
        println!("{name}\t{}", fields.join("\t"));
    }
    Ok(())
}

/// Only what stable versions need is built in.
fn is_served(module: &str) -> bool {
    let is_unstable = module.starts_with('v') && (module.contains("alpha") || module.contains("beta"));
    !is_unstable && module != "testapigroup" && module != "metrics"
}

fn read_directory(path: &Path, module: &mut Vec<String>, messages: &mut Messages) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && is_served(&name) {
            module.push(name);
            read_directory(&entry.path(), module, messages)?;
            module.pop();
        } else if name == "mod.rs" {
            let text = std::fs::read_to_string(entry.path())?;
            read_messages(&text, module, messages);
        }
    }
    Ok(())
}

fn read_messages(text: &str, module: &[String], messages: &mut Messages) {
    let mut lines = text.lines();
    let mut is_message = false;
    while let Some(line) = lines.next() {
        is_message |= line.contains("::prost::Message)");
        let Some(rest) = line.strip_prefix("pub struct ") else { continue };
        if !std::mem::take(&mut is_message) {
            continue;
        }
        let name = rest.trim_end_matches([' ', '{', '}']);
        let mut fields = Vec::new();
        if !rest.ends_with('}') {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "}").map(str::trim).collect();
            let body = body.into_iter().filter(|line| !line.starts_with("///")).collect::<Vec<_>>().join(" ");
            fields.extend(body.split("#[prost(").skip(1).filter_map(|field| read_field(field, module)));
        }
        messages.insert(definition(module, name), fields);
    }
}

/// One field: what stands in the attribute, then `)] pub name: type,`.
fn read_field(field: &str, module: &[String]) -> Option<String> {
    let (attribute, rest) = field.split_once(")]")?;
    let (name, kind) = rest.trim().trim_end_matches(',').strip_prefix("pub ")?.split_once(':')?;
    let name = name.trim_start_matches("r#");
    let (_, tag) = attribute.split_once("tag = \"")?;
    let tag = tag.split('"').next()?;
    let is_list = attribute.contains("repeated");
    let map = attribute.trim().strip_prefix("btree_map = \"").and_then(|map| map.split('"').next());
    let (mark, wire) = match map {
        Some(map) => ("%", map.split_once(", ")?.1),
        None => (if is_list { "*" } else { "" }, attribute.trim().split([',', ' ', '=']).next()?),
    };
    let wire = match wire {
        "string" => "s".to_owned(),
        "bytes" => "b".to_owned(),
        "bool" => "o".to_owned(),
        "double" => "d".to_owned(),
        "int32" | "int64" | "uint32" => "i".to_owned(),
        "message" => format!("={}", referred(kind, module)),
        _ => return None,
    };
    Some(format!("{tag} {name} {mark}{wire}"))
}

/// The last path in a type such as `Option<super::super::meta::v1::Time>` or `BTreeMap<String, Quantity>`.
fn referred(kind: &str, module: &[String]) -> String {
    let compact: String = kind.chars().filter(|c| !c.is_whitespace()).collect();
    let path = compact.trim_end_matches(['>', ',']).rsplit(['<', ',']).next().unwrap_or_default();
    let mut place = module.to_vec();
    let mut parts: Vec<&str> = path.split("::").collect();
    let name = parts.pop().unwrap_or_default();
    for part in parts {
        match part {
            "super" => {
                place.pop();
            }
            part => place.push(part.to_owned()),
        }
    }
    definition(&place, name)
}

/// As OpenAPI names it, in lower case.
fn definition(module: &[String], name: &str) -> String {
    format!("io.k8s.{}.{name}", module.join(".").replace('_', "-")).to_lowercase()
}
