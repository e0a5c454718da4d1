//! Kubeconfig files: the admin's own, and the context `knarr` in the user's file, where everything else stays
//! as it is.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_yaml::{Mapping, Value};

/// The name of the cluster, the user and the context.
const NAME: &str = "knarr";

/// What a client needs to be the administrator.
#[derive(Clone, Debug)]
pub struct Admin<'a> {
    pub server: String,
    pub ca_pem: &'a str,
    pub certificate_pem: &'a str,
    pub key_pem: &'a str,
}

/// Writes a kubeconfig with nothing but this cluster.
pub fn write_admin(path: &Path, admin: &Admin<'_>) -> Result<()> {
    write_private(path, &merge(Value::Mapping(Mapping::new()), admin)?)
}

/// Adds or renews the context `knarr` in the file at `path` and makes it the current one where the file had
/// none. A file that cannot be read as a kubeconfig is left alone.
pub fn merge_into(path: &Path, admin: &Admin<'_>) -> Result<()> {
    let existing = match fs::read_to_string(path) {
        Ok(text) => serde_yaml::from_str(&text)
            .with_context(|| format!("{} is no valid kubeconfig and was left as it is", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let merged = merge(existing, admin)
        .with_context(|| format!("{} is no valid kubeconfig and was left as it is", path.display()))?;
    write_private(path, &merged)
}

/// Takes the context `knarr` out of the file again, if it is there and means the cluster that `admin` (the
/// administrator's own file) belongs to.
pub fn remove_from(path: &Path, admin: &Path) -> Result<()> {
    let (Some(Value::Mapping(mut config)), Some(admin)) = (read(path), read(admin)) else { return Ok(()) };
    if authority(&Value::Mapping(config.clone())) != authority(&admin) {
        return Ok(());
    }
    let mut changed = false;
    for section in ["clusters", "users", "contexts"] {
        if let Some(Value::Sequence(entries)) = config.get_mut(section) {
            let before = entries.len();
            entries.retain(|entry| !is_ours(entry));
            changed |= entries.len() != before;
        }
    }
    if config.get("current-context").and_then(Value::as_str) == Some(NAME) {
        config.insert("current-context".into(), "".into());
        changed = true;
    }
    if changed { write_private(path, &Value::Mapping(config)) } else { Ok(()) }
}

fn read(path: &Path) -> Option<Value> {
    serde_yaml::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// The certificate authority of the cluster `knarr`, as the file has it.
fn authority(config: &Value) -> Option<String> {
    let cluster = config.get("clusters")?.as_sequence()?.iter().find(|entry| is_ours(entry))?;
    Some(cluster.get("cluster")?.get("certificate-authority-data")?.as_str()?.to_owned())
}

/// The user's kubeconfig: the first file of `KUBECONFIG`, else `~/.kube/config`.
pub fn default_path() -> Option<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).next());
    let listed = listed.filter(|path| !path.as_os_str().is_empty());
    listed.or_else(|| std::env::home_dir().map(|home| home.join(".kube/config")))
}

fn is_ours(entry: &Value) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(NAME)
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
    let context = mapping([("cluster", NAME.into()), ("user", NAME.into())]);
    config.entry("apiVersion".into()).or_insert("v1".into());
    config.entry("kind".into()).or_insert("Config".into());
    for (section, field, value) in
        [("clusters", "cluster", cluster), ("users", "user", user), ("contexts", "context", context)]
    {
        let entries = config.entry(section.into()).or_insert(Value::Sequence(Vec::new()));
        if entries.is_null() {
            *entries = Value::Sequence(Vec::new());
        }
        let Value::Sequence(entries) = entries else { bail!("{section} is no list") };
        entries.retain(|entry| !is_ours(entry));
        entries.push(mapping([("name", NAME.into()), (field, value)]));
    }
    let current = config.entry("current-context".into()).or_insert("".into());
    if current.as_str().is_none_or(str::is_empty) {
        *current = NAME.into();
    }
    Ok(Value::Mapping(config))
}

/// Replaces a file in one step; the new one can be read by its owner only, who stays the same.
fn write_private(path: &Path, value: &Value) -> Result<()> {
    let text = serde_yaml::to_string(value)?;
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let next = target.with_extension("knarr-new");
    let _ = fs::remove_file(&next);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)
        .with_context(|| format!("cannot create {}", next.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
    if let Ok(old) = fs::metadata(&target) {
        let _ = std::os::unix::fs::chown(&next, Some(old.uid()), Some(old.gid()));
    }
    fs::rename(&next, &target).with_context(|| format!("cannot replace {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(server: &str) -> Admin<'static> {
        Admin { server: server.into(), ca_pem: "CA", certificate_pem: "CERT", key_pem: "KEY" }
    }

    fn merged(before: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, before).unwrap();
        merge_into(&path, &admin("https://127.0.0.1:6443")).unwrap();
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn what_is_there_is_kept() {
        let before = "apiVersion: v1\nkind: Config\ncurrent-context: work\npreferences: {colors: true}\n\
            clusters:\n- name: work\n  cluster: {server: 'https://work'}\nusers: null\ncontexts: []\n";
        let after: Value = serde_yaml::from_str(&merged(before)).unwrap();
        assert_eq!(after["current-context"], "work");
        assert_eq!(after["preferences"]["colors"], true);
        assert_eq!(after["clusters"][0]["name"], "work");
        assert_eq!(after["clusters"][1]["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(after["users"][0]["user"]["client-key-data"], "S0VZ");
    }

    #[test]
    fn merging_twice_renews_and_removing_restores() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".kube/config");
        merge_into(&path, &admin("https://old")).unwrap();
        merge_into(&path, &admin("https://new")).unwrap();
        let config: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(config["clusters"].as_sequence().unwrap().len(), 1);
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://new");
        assert_eq!(config["current-context"], NAME);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let own = dir.path().join("admin");
        let foreign = Admin { ca_pem: "ANOTHER", ..admin("https://new") };
        write_admin(&own, &foreign).unwrap();
        remove_from(&path, &own).unwrap();
        let config: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(config["clusters"].as_sequence().unwrap().len(), 1, "another cluster's context was removed");
        write_admin(&own, &admin("https://new")).unwrap();
        remove_from(&path, &own).unwrap();
        let config: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((config["clusters"].as_sequence().unwrap().len(), &config["current-context"]), (0, &"".into()));
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        for broken in ["- a\n- b\n", "clusters: {a: 1}\n", "a: [\n"] {
            fs::write(&path, broken).unwrap();
            let refused = merge_into(&path, &admin("https://x")).unwrap_err().to_string();
            assert!(refused.contains("left as it is"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), broken);
        }
    }
}
