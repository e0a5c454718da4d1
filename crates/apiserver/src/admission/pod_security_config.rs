//! What the administrator says of the PodSecurity plugin: what a namespace without labels asks for, and whom nobody
//! holds to anything. It stands in an AdmissionConfiguration file
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/enforce-standards-admission-controller/>).

use std::{collections::HashSet, fs, path::Path};

use knarr_api::{
    field::{FieldError, FieldPath},
    meta::names,
};
use serde::Deserialize;
use serde_json::Value;

use super::pod_security_checks::Level;
use super::pod_security_labels::{LEVEL_FAULT, Policy, Standards, VERSION_FAULT, parse_minor};
use crate::contract::UserInfo;
use crate::json::text;

#[derive(Clone, Debug, Default)]
pub struct PodSecurityConfig {
    pub(super) defaults: Standards,
    pub(super) exemptions: Exemptions,
}

/// Who and what is let in without a look.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Exemptions {
    usernames: Vec<String>,
    runtime_classes: Vec<String>,
    namespaces: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is no {0}")]
    Parse(&'static str, #[source] serde_yaml::Error),
    #[error("it is a {api_version} {kind}; what is read is {wanted}")]
    Kind { api_version: String, kind: String, wanted: &'static str },
    #[error("the plugin {0:?} cannot be configured; PodSecurity can")]
    Plugin(String),
    #[error("PodSecurity: {0}")]
    Invalid(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AdmissionConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    /// Where the configuration is a file of its own, as seen from the first one.
    path: Option<String>,
    configuration: Option<serde_yaml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodSecurityConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Defaults {
    enforce: Option<String>,
    enforce_version: Option<String>,
    audit: Option<String>,
    audit_version: Option<String>,
    warn: Option<String>,
    warn_version: Option<String>,
}

impl PodSecurityConfig {
    /// Reads an AdmissionConfiguration. Plugins that it cannot configure are refused, not passed over.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read(path).map_err(ConfigError::Read)?;
        let wanted = "apiserver.config.k8s.io/v1 AdmissionConfiguration";
        let parse = |why| ConfigError::Parse(wanted, why);
        let AdmissionConfiguration { api_version, kind, plugins } = serde_yaml::from_slice(&text).map_err(parse)?;
        check_kind(api_version, kind, wanted)?;
        let mut config = Self::default();
        for Plugin { name, path: other, configuration } in plugins {
            if name != "PodSecurity" {
                return Err(ConfigError::Plugin(name));
            }
            let configuration = match (configuration, other) {
                (Some(configuration), _) => configuration,
                (None, Some(other)) => {
                    let other = path.with_file_name(other);
                    let text = fs::read(other).map_err(ConfigError::Read)?;
                    serde_yaml::from_slice(&text).map_err(|why| ConfigError::Parse(POD_SECURITY, why))?
                }
                (None, None) => continue,
            };
            config = Self::parse(configuration)?;
        }
        Ok(config)
    }

    fn parse(configuration: serde_yaml::Value) -> Result<Self, ConfigError> {
        let parse = |why| ConfigError::Parse(POD_SECURITY, why);
        let document: PodSecurityConfiguration = serde_yaml::from_value(configuration).map_err(parse)?;
        let PodSecurityConfiguration { api_version, kind, defaults, exemptions } = document;
        check_kind(api_version, kind, POD_SECURITY)?;
        let mut faults = Vec::new();
        let defaults = defaults.standards(&mut faults);
        exemptions.check(&mut faults);
        if !faults.is_empty() {
            let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return Err(ConfigError::Invalid(all.join(", ")));
        }
        Ok(Self { defaults, exemptions })
    }
}

const POD_SECURITY: &str = "pod-security.admission.config.k8s.io/v1 PodSecurityConfiguration";

fn check_kind(api_version: String, kind: String, wanted: &'static str) -> Result<(), ConfigError> {
    if format!("{api_version} {kind}") == wanted {
        Ok(())
    } else {
        Err(ConfigError::Kind { api_version, kind, wanted })
    }
}

impl Defaults {
    fn standards(&self, faults: &mut Vec<FieldError>) -> Standards {
        let root = FieldPath::new("defaults");
        let mut policy = |mode: &str, level: &Option<String>, version: &Option<String>| {
            let mut policy = Policy::PRIVILEGED;
            if let Some(word) = level {
                match Level::parse(word) {
                    Some(level) => policy.level = level,
                    None => faults.push(FieldError::invalid(&root.child(mode), word.as_str(), LEVEL_FAULT)),
                }
            }
            if let Some(word) = version {
                match parse_minor(word) {
                    Some(minor) => policy.minor = minor,
                    None => {
                        let path = format!("{mode}-version");
                        faults.push(FieldError::invalid(&root.child(&path), word.as_str(), VERSION_FAULT));
                    }
                }
            }
            policy
        };
        Standards {
            enforce: policy("enforce", &self.enforce, &self.enforce_version),
            warn: policy("warn", &self.warn, &self.warn_version),
            audit: policy("audit", &self.audit, &self.audit_version),
            faults: Vec::new(),
        }
    }
}

impl Exemptions {
    fn check(&self, faults: &mut Vec<FieldError>) {
        check_names("namespaces", &self.namespaces, names::label, faults);
        check_names("runtimeClasses", &self.runtime_classes, names::subdomain, faults);
        check_names("usernames", &self.usernames, |_| Vec::new(), faults);
    }

    pub(super) fn namespace(&self, name: &str) -> bool {
        self.namespaces.iter().any(|exempt| exempt == name)
    }

    /// By what a write is let in without a look, in the audit log's words.
    pub(super) fn of(&self, namespace: &str, user: &UserInfo, spec: &Value) -> Option<&'static str> {
        let by = [
            ("namespace", self.namespace(namespace)),
            ("user", self.usernames.contains(&user.name)),
            ("runtimeClass", self.runtime_class(spec)),
        ];
        by.iter().find(|(_, is_exempt)| *is_exempt).map(|(by, _)| *by)
    }

    pub(super) fn runtime_class(&self, spec: &Value) -> bool {
        self.runtime_classes.iter().any(|exempt| exempt == text(&spec["runtimeClassName"]))
    }
}

fn check_names(key: &str, list: &[String], rule: fn(&str) -> names::Faults, faults: &mut Vec<FieldError>) {
    let (root, mut seen) = (FieldPath::new("exemptions"), HashSet::new());
    let path = root.child(key);
    for (i, name) in list.iter().enumerate() {
        let (path, why) = (path.index(i), rule(name));
        if !why.is_empty() {
            faults.push(FieldError::invalid(&path, name.as_str(), why.join(", ")));
        } else if name.is_empty() {
            faults.push(FieldError::required(&path, ""));
        } else if !seen.insert(name) {
            faults.push(FieldError::duplicate(&path, name.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a file with these plugins.
    fn open(plugins: &str) -> Result<PodSecurityConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("other.yaml"), POD_SECURITY_FILE).unwrap();
        let path = directory.path().join("admission.yaml");
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
        fs::write(&path, format!("{head}{plugins}")).unwrap();
        PodSecurityConfig::open(&path).map_err(|error| error.to_string())
    }

    const POD_SECURITY_FILE: &str = "{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, \
        defaults: {enforce: baseline, enforce-version: v1.30, warn: restricted}, \
        exemptions: {usernames: [ann], runtimeClasses: [kata], namespaces: [kube-system]}}";

    #[test]
    fn a_file_says_what_holds_and_for_whom_not() {
        let inside = format!("- name: PodSecurity\n  configuration: {POD_SECURITY_FILE}\n");
        for plugins in [inside.as_str(), "- {name: PodSecurity, path: other.yaml}\n"] {
            let PodSecurityConfig { defaults, exemptions } = open(plugins).unwrap();
            let said = format!("{} {} {}", defaults.enforce, defaults.audit, defaults.warn);
            assert_eq!(said, "baseline:v1.30 privileged:latest restricted:latest");
            let (ann, none) = (UserInfo { name: "ann".into(), ..UserInfo::default() }, UserInfo::default());
            let kata = serde_json::json!({ "runtimeClassName": "kata" });
            assert_eq!(exemptions.of("kube-system", &none, &Value::Null), Some("namespace"));
            assert_eq!(exemptions.of("team", &ann, &kata), Some("user"));
            assert_eq!(exemptions.of("team", &none, &kata), Some("runtimeClass"));
            assert_eq!(exemptions.of("team", &none, &Value::Null), None);
        }
        assert!(open("- {name: PodSecurity}\n").unwrap().defaults.are_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let pod_security = |rest: &str| {
            format!(
                "- {{name: PodSecurity, configuration: {{apiVersion: pod-security.admission.config.k8s.io/v1, \
                     kind: PodSecurityConfiguration, {rest}}}}}"
            )
        };
        let rows = [
            (
                "- {name: EventRateLimit}".to_owned(),
                "the plugin \"EventRateLimit\" cannot be configured; PodSecurity can",
            ),
            (
                "- {name: PodSecurity, configuration: {apiVersion: v1, kind: Pod}}".to_owned(),
                "it is a v1 Pod; what is read is pod-security.admission.config.k8s.io/v1 PodSecurityConfiguration",
            ),
            (pod_security("default: {}"), "it is no pod-security.admission.config.k8s.io/v1 PodSecurityConfiguration"),
            ("- {name: PodSecurity, path: missing.yaml}".to_owned(), "it cannot be read"),
            (
                pod_security(
                    "defaults: {enforce: tight, warn-version: '1'}, exemptions: {usernames: ['', a, a], namespaces: [A]}",
                ),
                "PodSecurity: defaults.enforce: Invalid value: \"tight\": must be one of privileged, baseline, restricted, \
                 defaults.warn-version: Invalid value: \"1\": must be \"latest\" or \"v1.x\", \
                 exemptions.namespaces[0]: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case \
                 alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
                 or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), \
                 exemptions.usernames[0]: Required value, exemptions.usernames[2]: Duplicate value: \"a\"",
            ),
        ];
        for (plugins, expected) in rows {
            assert_eq!(open(&plugins).unwrap_err(), expected, "{plugins}");
        }
    }
}
