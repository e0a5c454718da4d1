//! What pods read: config maps and secrets.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Arg, Command};
use serde_json::{Value, json};

use super::generator;
use crate::{
    cx::Cx,
    error::Result,
    fail,
    flags::{list, switch, text},
};

fn sources() -> Vec<Arg> {
    vec![
        list("from-literal", "A key and its value, such as color=blue"),
        list("from-file", "A file, or KEY=FILE, or a directory of files"),
        list("from-env-file", "A file of lines KEY=VALUE"),
        switch("append-hash", "Not supported: name the object anew when its content changes"),
    ]
}

pub fn commands() -> [Command; 2] {
    let secrets = [
        generator(
            "generic",
            "Create a secret from files, directories or literal values",
            sources().into_iter().chain([text("type", "The type of the secret")]).collect(),
        ),
        generator(
            "tls",
            "Create a TLS secret",
            vec![text("cert", "PEM of the certificate"), text("key", "PEM of its key")],
        ),
        generator(
            "docker-registry",
            "Create a secret for a registry of images",
            vec![
                text("docker-server", "The registry").default_value("https://index.docker.io/v1/"),
                text("docker-username", "The user"),
                text("docker-password", "The password"),
                text("docker-email", "The address"),
            ],
        ),
    ];
    [
        generator("configmap", "Create a config map from files, directories or literal values", sources())
            .visible_alias("cm"),
        Command::new("secret").about("Create a secret").subcommand_required(true).subcommands(secrets),
    ]
}

/// Keys and bytes of `--from-literal`, `--from-file` and `--from-env-file`.
fn data(cx: &Cx) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |key: String, bytes: Vec<u8>| {
        if found.iter().any(|(known, _)| *known == key) {
            return Err(fail!("cannot add key \"{key}\", another key by that name already exists"));
        }
        found.push((key, bytes));
        Ok(())
    };
    for literal in cx.flags.all("from-literal") {
        let (key, value) =
            literal.split_once('=').ok_or_else(|| fail!("invalid literal source {literal}, expected key=value"))?;
        let quoted = |q: char| value.len() > 1 && value.starts_with(q) && value.ends_with(q);
        let value = if quoted('"') || quoted('\'') { &value[1..value.len() - 1] } else { value };
        add(key.into(), value.into())?;
    }
    let read = |path: &str| fs::read(path).map_err(|_| fail!("error reading {path}: no such file or directory"));
    for source in cx.flags.all("from-file") {
        let (key, path) = source.split_once('=').map_or((None, source), |(key, path)| (Some(key), path));
        if key.is_none() && fs::metadata(path).is_ok_and(|m| m.is_dir()) {
            let mut files: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
            files.sort_by_key(fs::DirEntry::file_name);
            for file in files.iter().filter(|file| file.path().is_file()) {
                add(file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?)?;
            }
            continue;
        }
        let name = std::path::Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        add(key.map(str::to_owned).or(name).unwrap_or_default(), read(path)?)?;
    }
    for path in cx.flags.all("from-env-file") {
        for line in String::from_utf8_lossy(&read(path)?).lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let own = || (line.to_owned(), std::env::var(line).unwrap_or_default());
            let (key, value) = line.split_once('=').map_or_else(own, |(key, value)| (key.to_owned(), value.to_owned()));
            add(key, value.into_bytes())?;
        }
    }
    Ok(found)
}

pub fn config_map(cx: &Cx, name: &str) -> Result<Value> {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    for (key, bytes) in data(cx)? {
        match String::from_utf8(bytes) {
            Ok(text) => object["data"][key] = text.into(),
            Err(error) => object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into(),
        }
    }
    Ok(object)
}

pub fn secret(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let mut put = |key: &str, bytes: &[u8]| object["data"][key] = STANDARD.encode(bytes).into();
    let ty = match kind {
        "generic" => {
            data(cx)?.iter().for_each(|(key, bytes)| put(key, bytes));
            cx.flags.some("type").unwrap_or_default()
        }
        "tls" => {
            for (flag, key) in [("cert", "tls.crt"), ("key", "tls.key")] {
                let path = cx.flags.required(flag)?;
                put(key, &fs::read(path).map_err(|error| fail!("open {path}: {error}"))?);
            }
            "kubernetes.io/tls"
        }
        _ => {
            let (user, password) = (cx.flags.required("docker-username")?, cx.flags.required("docker-password")?);
            let server = cx.flags.required("docker-server")?;
            let email =
                cx.flags.some("docker-email").map(|email| format!("\"email\":{},", json!(email))).unwrap_or_default();
            let auth = STANDARD.encode(format!("{user}:{password}"));
            let config = format!(
                "{{\"auths\":{{{}:{{\"username\":{},\"password\":{},{email}\"auth\":\"{auth}\"}}}}}}",
                json!(server),
                json!(user),
                json!(password)
            );
            put(".dockerconfigjson", config.as_bytes());
            "kubernetes.io/dockerconfigjson"
        }
    };
    if !ty.is_empty() {
        object["type"] = ty.into();
    }
    Ok(object)
}
