//! A container's environment: from ConfigMaps and Secrets, from its own list, and from the services around it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{EnvVarSource, FileKeySelector, Service};

use super::{
    containers::Entry,
    downward::{self, DownwardError, Facts},
    env_file,
    expand::expand,
    references::{NotSynced, Snapshot},
};

/// Why a container cannot be configured; its `waiting` state says `CreateContainerConfigError` and this.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error("configmap {0:?} not found")]
    NoConfigMap(String),
    #[error("secret {0:?} not found")]
    NoSecret(String),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey { namespace: String, name: String, key: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey { namespace: String, name: String, key: String },
    #[error("{0}")]
    Downward(#[from] DownwardError),
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    NoVolume(String),
    #[error("couldn't parse env file")]
    File,
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NoFileKey { key: String, path: PathBuf },
    #[error("{0}")]
    NotSynced(#[from] NotSynced),
}

/// What variables are looked up in.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub snapshot: &'a Snapshot,
    pub services: &'a [Arc<Service>],
    /// Where the pod's volumes are.
    pub volumes: &'a Path,
}

/// The environment in the order it is given to the process; later entries of a name replace earlier ones.
pub fn build(facts: Facts<'_>, entry: &Entry, sources: Sources<'_>) -> Result<Vec<(String, String)>, EnvError> {
    let mut env = Environment::default();
    let links = service_variables(facts, sources.services);
    from_sources(entry, sources.snapshot, &mut env)?;
    for variable in entry.spec.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match from_source(facts, entry, source, sources)? {
                Some(value) => value,
                None => continue,
            },
            (value, None) => {
                let mut known: HashMap<&str, &str> = links.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                known.extend(env.iter());
                expand(value.as_deref().unwrap_or_default(), &known)
            }
        };
        env.set(&variable.name, value);
    }
    for (name, value) in links {
        if !env.has(&name) {
            env.set(&name, value);
        }
    }
    Ok(env.list)
}

#[derive(Default)]
struct Environment {
    list: Vec<(String, String)>,
    at: HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        match self.at.get(name) {
            Some(&index) => self.list[index].1 = value,
            None => {
                self.at.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.at.contains_key(name)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// `envFrom`: each key of a whole ConfigMap or Secret.
fn from_sources(entry: &Entry, snapshot: &Snapshot, env: &mut Environment) -> Result<(), EnvError> {
    for source in entry.spec.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match snapshot.config_map(&reference.name)? {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        env.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(EnvError::NoConfigMap(reference.name.clone())),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match snapshot.secret(&reference.name)? {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        env.set(&format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(EnvError::NoSecret(reference.name.clone())),
            }
        }
    }
    Ok(())
}

/// `valueFrom`; `None` where an optional source is missing, which leaves the variable unset.
fn from_source(
    facts: Facts<'_>,
    entry: &Entry,
    source: &EnvVarSource,
    Sources { snapshot, volumes, .. }: Sources<'_>,
) -> Result<Option<String>, EnvError> {
    let namespace = facts.pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(selector) = &source.field_ref {
        return Ok(Some(downward::field(facts, selector)?));
    }
    if let Some(selector) = &source.resource_field_ref {
        return Ok(Some(downward::resource(facts, entry.name(), selector)?));
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let (name, key) = (selector.name.clone(), selector.key.clone());
        return match snapshot.config_map(&name)? {
            None if optional => Ok(None),
            None => Err(EnvError::NoConfigMap(name)),
            Some(map) => match map.data.as_ref().and_then(|data| data.get(&key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(EnvError::NoConfigMapKey { namespace, name, key }),
            },
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional == Some(true);
        let (name, key) = (selector.name.clone(), selector.key.clone());
        return match snapshot.secret(&name)? {
            None if optional => Ok(None),
            None => Err(EnvError::NoSecret(name)),
            Some(secret) => match secret.data.as_ref().and_then(|data| data.get(&key)) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(EnvError::NoSecretKey { namespace, name, key }),
            },
        };
    }
    match &source.file_key_ref {
        Some(selector) => file_key(facts, selector, volumes),
        None => Ok(Some(String::new())),
    }
}

/// A variable without a value counts as one that is not there.
fn file_key(facts: Facts<'_>, selector: &FileKeySelector, volumes: &Path) -> Result<Option<String>, EnvError> {
    let volume = crate::volume::host_path(facts.pod, volumes, &selector.volume_name);
    let volume = volume.ok_or_else(|| EnvError::NoVolume(selector.volume_name.clone()))?;
    match env_file::read(&volume, Path::new(&selector.path), &selector.key) {
        Ok(value) if !value.is_empty() => Ok(Some(value)),
        Ok(_) if selector.optional == Some(true) => Ok(None),
        Ok(_) => Err(EnvError::NoFileKey { key: selector.key.clone(), path: volume.join(&selector.path) }),
        Err(error) => {
            // What is in the file is the pod's, and not for its status.
            tracing::warn!(volume = selector.volume_name, path = selector.path, %error, "an env file cannot be read");
            Err(EnvError::File)
        }
    }
}

/// Variables for the services of the pod's namespace, and always for `kubernetes` in `default`.
fn service_variables(facts: Facts<'_>, services: &[Arc<Service>]) -> BTreeMap<String, String> {
    let links = facts.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let own = facts.pod.metadata.namespace.as_deref();
    let mut variables = BTreeMap::new();
    let mut taken = HashSet::new();
    let (master, others): (Vec<_>, Vec<_>) = services.iter().partition(|service| {
        service.metadata.namespace.as_deref() == Some("default")
            && service.metadata.name.as_deref() == Some("kubernetes")
    });
    let others = others.into_iter().filter(|service| links && service.metadata.namespace.as_deref() == own);
    // A namespace's own service wins over the master service of the same name.
    for service in others.chain(master) {
        if taken.insert(service.metadata.name.clone()) {
            variables.extend(variables_of(service));
        }
    }
    variables
}

fn variables_of(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return Vec::new() };
    let Some(first) = spec.ports.as_ref().and_then(|ports| ports.first()) else { return Vec::new() };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let address = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut list =
        vec![(format!("{name}_SERVICE_HOST"), ip.to_owned()), (format!("{name}_SERVICE_PORT"), first.port.to_string())];
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{address}:{number}", protocol.to_lowercase());
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            list.push((format!("{name}_SERVICE_PORT_{}", upper(port_name)), number.to_string()));
        }
        if index == 0 {
            list.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
        list.push((prefix.clone(), url));
        list.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        list.push((format!("{prefix}_PORT"), number.to_string()));
        list.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    list
}
