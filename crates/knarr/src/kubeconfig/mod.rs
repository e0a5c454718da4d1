//! Kubeconfig files: the admin's own, and the cluster's context in the user's file, where everything else stays
//! as it is.

mod file;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_yaml::{Mapping, Value};

use self::{file::Locked, text::Change};

/// The usual name of the cluster, the user and the context.
pub const NAME: &str = "knarr";
/// The sections of a kubeconfig, and the field of an entry that holds what it is about.
const SECTIONS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

/// What a client needs to be the administrator.
#[derive(Clone, Debug)]
pub struct Admin<'a> {
    /// Of the cluster, the user and the context.
    pub name: &'a str,
    pub server: String,
    pub ca_pem: &'a str,
    pub certificate_pem: &'a str,
    pub key_pem: &'a str,
}

/// The administrator's certificates, as read from their own file.
pub struct Credentials {
    ca_pem: String,
    certificate_pem: String,
    key_pem: String,
}

impl Credentials {
    /// Reads the file that [`write_admin`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Value = serde_yaml::from_str(&text)?;
        let decoded = |(section, field): (&str, &str), key: &str| -> Result<String> {
            let data = config.get(section).and_then(|entries| entries.get(0)?.get(field)?.get(key)?.as_str());
            let data = data.with_context(|| format!("{} has no {key}", path.display()))?;
            Ok(String::from_utf8(STANDARD.decode(data)?)?)
        };
        let [clusters, users, _] = SECTIONS;
        Ok(Self {
            ca_pem: decoded(clusters, "certificate-authority-data")?,
            certificate_pem: decoded(users, "client-certificate-data")?,
            key_pem: decoded(users, "client-key-data")?,
        })
    }

    /// The same administrator under another name, at another address of the server.
    pub fn admin<'a>(&'a self, name: &'a str, server: String) -> Admin<'a> {
        let Self { ca_pem, certificate_pem, key_pem } = self;
        Admin { name, server, ca_pem, certificate_pem, key_pem }
    }
}

/// Writes a kubeconfig with nothing but this cluster.
pub fn write_admin(path: &Path, admin: &Admin<'_>) -> Result<()> {
    file::replace(path, &serde_yaml::to_string(&merge(Value::Null, admin)?)?)
}

/// Adds or renews the cluster's context in the file at `path` and makes it the current one where the file had
/// none; says whether it is. A file that cannot be read as a kubeconfig is left alone.
pub fn merge_into(path: &Path, admin: &Admin<'_>) -> Result<bool> {
    let invalid = || format!("{} is no valid kubeconfig and was left as it is", path.display());
    let file = Locked::take(path)?;
    let before = file.read()?.unwrap_or_default();
    let merged = merge(serde_yaml::from_str(&before).with_context(invalid)?, admin).with_context(invalid)?;
    let name = admin.name;
    let changes = SECTIONS.map(|(section, _)| Change { section, name, entry: ours(&merged, section, name).cloned() });
    file.replace(&render(&before, &merged, &changes)?)?;
    Ok(current(&merged) == Some(name))
}

/// Renews the cluster's context in the file at `path`, if it is there still and means the same cluster.
pub fn renew_in(path: &Path, admin: &Admin<'_>) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let config: Value =
        serde_yaml::from_str(&text).with_context(|| format!("{} is no valid kubeconfig", path.display()))?;
    if authority(&config, admin.name) != Some(&STANDARD.encode(admin.ca_pem)) {
        return Ok(());
    }
    merge_into(path, admin).map(drop)
}

/// Takes the context out of the file again that the administrator's own file, `admin`, has, if it is there and means the
/// same cluster. A file in which nothing is left goes.
pub fn remove_from(path: &Path, admin: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let file = Locked::take(path)?;
    let Some(before) = file.read()? else { return Ok(()) };
    let Some(mut config) = serde_yaml::from_str::<Value>(&before).ok().filter(Value::is_mapping) else { return Ok(()) };
    let admin = std::fs::read_to_string(admin).ok().and_then(|text| serde_yaml::from_str::<Value>(&text).ok());
    let Some((admin, name)) = admin.as_ref().and_then(|admin| Some((admin, current(admin)?))) else { return Ok(()) };
    if authority(&config, name).is_none() || authority(&config, name) != authority(admin, name) {
        return Ok(());
    }
    for (section, _) in SECTIONS {
        if let Some(Value::Sequence(entries)) = config.get_mut(section) {
            entries.retain(|entry| !is_named(entry, name));
        }
    }
    if current(&config) == Some(name) {
        config["current-context"] = "".into();
    }
    if is_bare(&config) && !before.contains('#') {
        return file.remove();
    }
    file.replace(&render(&before, &config, &SECTIONS.map(|(section, _)| Change { section, name, entry: None }))?)
}

/// The user's kubeconfig: the first file of `KUBECONFIG`, else `~/.kube/config`.
pub fn default_path() -> Option<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).next());
    let listed = listed.filter(|path| !path.as_os_str().is_empty());
    listed.or_else(|| std::env::home_dir().map(|home| home.join(".kube/config")))
}

/// The text that means `config`: that of before with the changes in it where this can be done, else a new one.
fn render(before: &str, config: &Value, changes: &[Change<'_>]) -> Result<String> {
    let scalars = ["apiVersion", "kind", "current-context"];
    let old: Value = serde_yaml::from_str(before)?;
    let set: Vec<(&str, &str)> = scalars
        .into_iter()
        .filter(|key| old.get(key) != config.get(key))
        .filter_map(|key| Some((key, config.get(key)?.as_str()?)))
        .collect();
    let edited = text::edit(before, changes, &set);
    match edited.filter(|text| serde_yaml::from_str::<Value>(text).is_ok_and(|found| found == *config)) {
        Some(text) => Ok(text),
        None => Ok(serde_yaml::to_string(config)?),
    }
}

/// The certificate authority of the cluster of this name, as the file has it.
fn authority<'a>(config: &'a Value, name: &str) -> Option<&'a str> {
    ours(config, "clusters", name)?.get("cluster")?.get("certificate-authority-data")?.as_str()
}

fn current(config: &Value) -> Option<&str> {
    config.get("current-context").and_then(Value::as_str)
}

/// Nothing of anybody is in it.
fn is_bare(config: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Sequence(entries) => entries.is_empty(),
        Value::Mapping(entries) => entries.is_empty(),
        _ => false,
    };
    config.as_mapping().is_some_and(|fields| {
        fields.iter().all(|(key, value)| matches!(key.as_str(), Some("apiVersion" | "kind")) || empty(value))
    })
}

fn ours<'a>(config: &'a Value, section: &str, name: &str) -> Option<&'a Value> {
    config.get(section)?.as_sequence()?.iter().find(|entry| is_named(entry, name))
}

fn is_named(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

fn mapping<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Mapping(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn merge(existing: Value, admin: &Admin<'_>) -> Result<Value> {
    let mut config = match existing {
        Value::Null => Mapping::new(),
        Value::Mapping(config) => config,
        _ => bail!("the document is no mapping"),
    };
    let encoded = |pem: &str| Value::String(STANDARD.encode(pem));
    let cluster =
        mapping([("certificate-authority-data", encoded(admin.ca_pem)), ("server", admin.server.clone().into())]);
    let user = mapping([
        ("client-certificate-data", encoded(admin.certificate_pem)),
        ("client-key-data", encoded(admin.key_pem)),
    ]);
    let name = admin.name;
    let context = mapping([("cluster", name.into()), ("user", name.into())]);
    config.entry("apiVersion".into()).or_insert("v1".into());
    config.entry("kind".into()).or_insert("Config".into());
    for ((section, field), value) in SECTIONS.into_iter().zip([cluster, user, context]) {
        let entries = config.entry(section.into()).or_insert(Value::Sequence(Vec::new()));
        if entries.is_null() {
            *entries = Value::Sequence(Vec::new());
        }
        let Value::Sequence(entries) = entries else { bail!("{section} is no list") };
        entries.retain(|entry| !is_named(entry, name));
        entries.push(mapping([("name", name.into()), (field, value)]));
    }
    let current = config.entry("current-context".into()).or_insert("".into());
    if current.as_str().is_none_or(str::is_empty) {
        *current = name.into();
    }
    Ok(Value::Mapping(config))
}

#[cfg(test)]
mod tests;
