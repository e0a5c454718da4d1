//! Network configurations: a list of plugins, each with what it is told.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("no networks found in {0}")]
    None(String),
    #[error("the network configuration {path} cannot be used: {why}")]
    Unusable { path: String, why: String },
}

/// The pods' network.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkList {
    #[serde(default)]
    pub cni_version: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub disable_check: bool,
    #[serde(default, rename = "disableGC", skip_serializing_if = "is_false")]
    pub disable_gc: bool,
    pub plugins: Vec<Map<String, Value>>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Versions of the specification that are spoken here, the oldest first.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

impl NetworkList {
    /// The first configuration of a directory, by name, as kubelets' runtimes choose it.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let entries =
            fs::read_dir(dir).map_err(|source| ConfigError::Read { path: dir.display().to_string(), source })?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths
            .retain(|path| path.extension().is_some_and(|kind| kind == "conflist" || kind == "conf" || kind == "json"));
        paths.sort();
        let first = paths.first().ok_or_else(|| ConfigError::None(dir.display().to_string()))?;
        let path = first.display().to_string();
        let text = fs::read(first).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Self::parse(&text).map_err(|why| ConfigError::Unusable { path, why })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Map<String, Value> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let list: Self = match value.contains_key("plugins") {
            true => serde_json::from_value(Value::Object(value)).map_err(|error| error.to_string())?,
            // One plugin by itself is a list of one.
            false => {
                let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let (cni_version, name) = (text("cniVersion"), text("name"));
                Self { cni_version, name, disable_check: false, disable_gc: false, plugins: vec![value] }
            }
        };
        if !VERSIONS.contains(&list.cni_version.as_str()) {
            return Err(format!("its cniVersion {:?} is none of {}", list.cni_version, VERSIONS.join(", ")));
        }
        // Both become parts of paths.
        if !is_name(&list.name) {
            return Err(format!("{:?} is no name of a network", list.name));
        }
        if list.plugins.is_empty() {
            return Err("it has no plugins".to_owned());
        }
        match list.plugins.iter().map(kind).find(|kind| !is_name(kind)) {
            Some(kind) => Err(format!("{kind:?} is no plugin's type")),
            None => Ok(list),
        }
    }

    /// Whether the list speaks this version or a later one.
    pub fn has(&self, version: &str) -> bool {
        let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
        place(&self.cni_version) >= place(version)
    }
}

/// The program that a plugin is.
pub fn kind(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn is_name(text: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        for (text, why) in [
            (r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge"}]}"#, ""),
            (r#"{"cniVersion": "0.3.1", "name": "n", "type": "bridge"}"#, ""),
            (r#"{"cniVersion": "0.2.0", "name": "n", "type": "bridge"}"#, "its cniVersion \"0.2.0\" is none of"),
            (r#"{"name": "n", "type": "bridge"}"#, "its cniVersion \"\" is none of"),
            (r#"{"cniVersion": "1.0.0", "name": "../n", "type": "bridge"}"#, "is no name of a network"),
            (r#"{"cniVersion": "1.0.0", "name": "n", "type": "../../bin/sh"}"#, "is no plugin's type"),
            (r#"{"cniVersion": "1.0.0", "name": "n", "plugins": []}"#, "it has no plugins"),
            (r#"{"cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}"#, "missing field `name`"),
            ("[]", "invalid type"),
        ] {
            match NetworkList::parse(text.as_bytes()) {
                Ok(list) => assert_eq!((why, list.plugins.len()), ("", 1), "{text}"),
                Err(error) => assert!(!why.is_empty() && error.contains(why), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn the_first_of_a_directory_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(NetworkList::load(dir.path()), Err(ConfigError::None(_))));
        for (file, name) in [("20-b.conflist", "b"), ("10-a.conf", "a"), ("05-not.txt", "not")] {
            let text = format!(r#"{{"cniVersion": "1.0.0", "name": "{name}", "type": "bridge"}}"#);
            fs::write(dir.path().join(file), text).unwrap();
        }
        let list = NetworkList::load(dir.path()).unwrap();
        assert_eq!((list.name.as_str(), list.has("0.4.0"), list.has("1.1.0")), ("a", true, false));
    }
}
