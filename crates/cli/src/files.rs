//! `-f`: files, directories, URLs and standard input, as a list of objects.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    api::Api,
    cx::{Cx, dig_str},
    error::{Error, Result},
    fail, yaml,
};

/// An object, and where it was written.
pub struct Written {
    pub source: String,
    pub object: Value,
}

pub async fn read(cx: &Cx) -> Result<Vec<Written>> {
    let mut found = Vec::new();
    for path in cx.flags.list("filename") {
        match path {
            "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                parse("STDIN", &text, &mut found)?;
            }
            url if url.starts_with("http://") || url.starts_with("https://") => {
                parse(url, &Api::fetch(url).await?, &mut found)?;
            }
            path => {
                for file in expand(path, cx.flags.on("recursive"))? {
                    let name = file.display().to_string();
                    let text = fs::read_to_string(&file).map_err(|error| fail!("error reading {name}: {error}"))?;
                    parse(&name, &text, &mut found)?;
                }
            }
        }
    }
    Ok(found)
}

fn expand(path: &str, recursive: bool) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).map_err(|_| fail!("the path \"{path}\" does not exist"))?;
    if !metadata.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    walk(Path::new(path), recursive, 0, &mut files)?;
    if files.is_empty() {
        return Err(fail!("error reading [{path}]: recognized file extensions are [.json .yaml .yml]"));
    }
    Ok(files)
}

fn walk(folder: &Path, recursive: bool, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth > 64 {
        return Err(fail!("{} is nested too deeply", folder.display()));
    }
    let mut inside: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    inside.sort();
    for path in inside {
        if path.is_dir() {
            if recursive {
                walk(&path, recursive, depth + 1, files)?;
            }
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("json" | "yaml" | "yml")) {
            files.push(path);
        }
    }
    Ok(())
}

pub fn parse(source: &str, text: &str, found: &mut Vec<Written>) -> Result<()> {
    let documents = yaml::parse_all(text)
        .map_err(|error| fail!("error parsing {source}: error converting YAML to JSON: yaml: {error}"))?;
    for object in documents {
        add(source, object, found)?;
    }
    Ok(())
}

/// A list counts as its items.
fn add(source: &str, object: Value, found: &mut Vec<Written>) -> Result<()> {
    let missing =
        |field: &str| -> Error { fail!("unable to decode \"{source}\": Object '{field}' is missing in '{object}'") };
    if dig_str(&object, "kind").is_empty() {
        return Err(missing("Kind"));
    }
    if dig_str(&object, "apiVersion").is_empty() {
        return Err(fail!(
            "error validating \"{source}\": error validating data: apiVersion not set; if you choose to ignore these errors, turn validation off with --validate=false"
        ));
    }
    if !dig_str(&object, "kind").ends_with("List") || !object["items"].is_array() {
        found.push(Written { source: source.into(), object });
        return Ok(());
    }
    let item_kind = dig_str(&object, "kind").trim_end_matches("List").to_owned();
    for item in object["items"].as_array().into_iter().flatten() {
        let mut item = item.clone();
        // The items of a typed list need not repeat their kind.
        if !item_kind.is_empty() && item["kind"].is_null() {
            item["kind"] = item_kind.clone().into();
            item["apiVersion"] = object["apiVersion"].clone();
        }
        add(source, item, found)?;
    }
    Ok(())
}
