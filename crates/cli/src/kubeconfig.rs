//! The kubeconfig: found, merged and written as kubectl does it. Entries stay JSON, so that what is not known here
//! survives.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    fail,
    flags::Flags,
};

/// Where `knarr up` leaves the administrator's credentials.
const ADMIN: &str = "admin.kubeconfig";
const DATA_DIR: &str = "/var/lib/knarr";

/// Sections of the file, and the field of an entry that holds what it is about.
pub const SECTIONS: [(&str, &str); 3] = [("clusters", "cluster"), ("contexts", "context"), ("users", "user")];

#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// All files as one: what an earlier one says holds.
    pub merged: Value,
    pub files: Vec<(PathBuf, Value)>,
}

impl Kubeconfig {
    /// `--kubeconfig`, else the files of `KUBECONFIG`, else `~/.kube/config`.
    pub fn load(flags: &Flags) -> Result<Self> {
        let (paths, explicit) = match flags.some("kubeconfig") {
            Some(path) => (vec![PathBuf::from(path)], true),
            None => match env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
                Some(list) => (env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(), false),
                None => (env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(), false),
            },
        };
        let mut files = Vec::new();
        for path in paths {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    let parsed = serde_yaml::from_str::<Option<Value>>(&text);
                    let config = parsed.map_err(|error| fail!("error loading config file {path:?}: {error}"))?;
                    let config = config.unwrap_or_else(|| json!({}));
                    if !config.is_object() {
                        return Err(fail!("error loading config file {path:?}: it is no kubeconfig"));
                    }
                    files.push((path, config));
                }
                Err(error) if explicit && error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(fail!("stat {}: no such file or directory", path.display()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => files.push((path, json!({}))),
                Err(error) => return Err(fail!("error loading config file \"{}\": {error}", path.display())),
            }
        }
        let merged = merge(files.iter().map(|(_, config)| config));
        Ok(Self { merged, files })
    }

    /// As [`Kubeconfig::load`]; where no file says anything, the credentials that `knarr up` wrote on this machine.
    pub fn for_requests(flags: &Flags) -> Result<Self> {
        let config = Self::load(flags)?;
        if config.names("clusters").next().is_some() || flags.some("server").is_some() {
            return Ok(config);
        }
        let dir = env::var_os("KNARR_DATA_DIR").map_or_else(|| DATA_DIR.into(), PathBuf::from);
        let Ok(text) = fs::read_to_string(dir.join(ADMIN)) else { return Ok(config) };
        let admin: Value = serde_yaml::from_str(&text).map_err(|error| fail!("{error}"))?;
        Ok(Self { merged: merge([&admin].into_iter()), files: vec![(dir.join(ADMIN), admin)] })
    }

    pub fn names(&self, section: &str) -> impl Iterator<Item = &str> {
        entries(&self.merged, section).filter_map(|entry| entry["name"].as_str())
    }

    pub fn entry(&self, section: &str, name: &str) -> Option<&Value> {
        let field = field_of(section);
        entries(&self.merged, section).find(|entry| entry["name"] == name).map(|entry| &entry[field])
    }

    pub fn current(&self) -> &str {
        self.merged["current-context"].as_str().unwrap_or_default()
    }

    /// The context that flags and file choose.
    pub fn context<'a>(&'a self, flags: &'a Flags) -> &'a str {
        flags.some("context").unwrap_or_else(|| self.current())
    }

    /// The namespace of a request, and whether somebody asked for it by a flag.
    pub fn namespace(&self, flags: &Flags) -> (String, bool) {
        if let Some(namespace) = flags.some("namespace") {
            return (namespace.into(), true);
        }
        let context = self.entry("contexts", self.context(flags));
        let named = context.and_then(|context| context["namespace"].as_str()).filter(|name| !name.is_empty());
        (named.unwrap_or("default").into(), false)
    }

    /// The file that holds an entry, or the first where none does: that one is changed.
    pub fn file_of(&mut self, holds: impl Fn(&Value) -> bool) -> Result<&mut (PathBuf, Value)> {
        let at = self.files.iter().position(|(_, config)| holds(config)).unwrap_or(0);
        self.files.get_mut(at).ok_or_else(|| fail!("no kubeconfig file is named by --kubeconfig, KUBECONFIG or HOME"))
    }

    /// What one request needs, as one cluster, one user and one context.
    pub fn effective(&self, flags: &Flags) -> Result<Value> {
        let name = self.context(flags);
        let context = match self.entry("contexts", name) {
            Some(context) => context.clone(),
            None if flags.some("context").is_some() => return Err(fail!("context \"{name}\" does not exist")),
            None => json!({}),
        };
        let pick = |section: &str, flag: &str, field: &str| -> Result<Value> {
            let name = flags.some(flag).or_else(|| context[field].as_str()).unwrap_or_default();
            match self.entry(section, name) {
                Some(entry) => Ok(entry.clone()),
                None if flags.some(flag).is_some() => Err(fail!("{flag} \"{name}\" does not exist")),
                None => Ok(json!({})),
            }
        };
        let (mut cluster, mut user) = (pick("clusters", "cluster", "cluster")?, pick("users", "user", "user")?);
        let set = |target: &mut Value, flag: &str, field: &str| {
            if let Some(value) = flags.some(flag) {
                target[field] = value.into();
                if let Some(target) = target.as_object_mut() {
                    target.remove(&format!("{field}-data"));
                }
            }
        };
        set(&mut cluster, "server", "server");
        set(&mut cluster, "certificate-authority", "certificate-authority");
        set(&mut cluster, "tls-server-name", "tls-server-name");
        set(&mut user, "token", "token");
        set(&mut user, "client-certificate", "client-certificate");
        set(&mut user, "client-key", "client-key");
        if flags.on("insecure-skip-tls-verify") {
            cluster["insecure-skip-tls-verify"] = true.into();
            for field in ["certificate-authority", "certificate-authority-data"] {
                cluster.as_object_mut().map(|cluster| cluster.remove(field));
            }
        }
        if cluster["server"].as_str().is_none_or(str::is_empty) {
            return Err(Error::Plain(
                "no cluster is known: start one with `knarr up`, or name a kubeconfig by --kubeconfig or KUBECONFIG"
                    .into(),
            ));
        }
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": user}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }))
    }
}

pub fn field_of(section: &str) -> &'static str {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, field)| field)
}

/// What is in a list and is no entry is passed over.
pub fn entries<'a>(config: &'a Value, section: &str) -> impl Iterator<Item = &'a Value> {
    config[section].as_array().into_iter().flatten().filter(|entry| entry.is_object())
}

/// The entry of that name in one file, made where it is missing.
pub fn entry_mut<'a>(config: &'a mut Value, section: &str, name: &str) -> &'a mut Value {
    if !config[section].is_array() {
        config[section] = json!([]);
    }
    let field = field_of(section);
    let list = config[section].as_array_mut().unwrap_or_else(|| unreachable!("it was made a list just now"));
    let at = list.iter().position(|entry| entry["name"] == name).unwrap_or_else(|| {
        let mut entry = json!({ "name": name });
        entry[field] = json!({});
        list.push(entry);
        list.len() - 1
    });
    &mut list[at][field]
}

/// Several files as one, as a reader of one file would see it.
pub fn merge<'a>(configs: impl Iterator<Item = &'a Value>) -> Value {
    let mut merged = json!({"apiVersion": "v1", "kind": "Config", "current-context": ""});
    let mut sections: [Vec<Value>; 3] = Default::default();
    for config in configs {
        if merged["current-context"] == "" {
            merged["current-context"] = config["current-context"].as_str().unwrap_or_default().into();
        }
        for ((section, _), target) in SECTIONS.iter().zip(&mut sections) {
            for entry in entries(config, section) {
                if !target.iter().any(|known| known["name"] == entry["name"]) {
                    target.push(entry.clone());
                }
            }
        }
    }
    for ((section, _), mut list) in SECTIONS.iter().zip(sections) {
        list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        merged[*section] = if list.is_empty() { Value::Null } else { list.into() };
    }
    merged
}

/// Writes a kubeconfig in one step, readable by its owner only.
pub fn write(path: &Path, config: &Value) -> Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut config = config.clone();
    for (field, value) in [("apiVersion", json!("v1")), ("kind", json!("Config")), ("current-context", json!(""))] {
        let missing = config.get(field).is_none();
        if missing {
            config[field] = value;
        }
    }
    for (section, _) in SECTIONS {
        if config[section].is_null() {
            config[section] = json!([]);
        }
        if let Some(list) = config[section].as_array_mut() {
            list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        }
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let lock = target.with_extension("lock-cli");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&lock)?;
    file.write_all(crate::yaml::to_string(&config).as_bytes())?;
    file.sync_all()?;
    fs::rename(&lock, &target)?;
    Ok(())
}

/// `config view` hides what nobody should copy by accident.
pub fn redact(config: &mut Value) {
    let hide = |map: &mut Map<String, Value>| {
        for (key, text) in [
            ("certificate-authority-data", "DATA+OMITTED"),
            ("client-certificate-data", "DATA+OMITTED"),
            ("client-key-data", "DATA+OMITTED"),
            ("token", "REDACTED"),
            ("password", "REDACTED"),
        ] {
            if map.contains_key(key) {
                map.insert(key.into(), text.into());
            }
        }
    };
    for (section, field) in SECTIONS {
        for entry in config[section].as_array_mut().into_iter().flatten() {
            if let Some(map) = entry.get_mut(field).and_then(Value::as_object_mut) {
                hide(map);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_wins_and_entries_are_sorted() {
        let one = json!({"current-context": "a", "users": [{"name": "z", "user": {"token": "1"}}]});
        let two = json!({"current-context": "b",
            "users": [{"name": "z", "user": {"token": "2"}}, {"name": "y", "user": {}}]});
        let mut merged = merge([&one, &two].into_iter());
        assert_eq!(merged["current-context"], "a");
        assert_eq!(merged["users"][0]["name"], "y");
        assert_eq!(merged["users"][1]["user"]["token"], "1");
        redact(&mut merged);
        assert_eq!(merged["users"][1]["user"]["token"], "REDACTED");
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        let mut odd = json!({"users": ["u", 1, {"name": "z"}], "clusters": {"name": "c"}});
        redact(&mut odd);
        let mut merged = merge([&odd].into_iter());
        assert_eq!(merged["users"], json!([{"name": "z"}]));
        redact(&mut merged);
    }
}
