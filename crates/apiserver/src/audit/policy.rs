//! The audit policy: an ordered list of rules, of which the first that a request matches says how much is written of it.

use std::path::Path;

use knarr_api::{
    field::{FieldError, FieldPath},
    meta::names,
};
use serde::Deserialize;
use serde_json::Value;

use super::Stage;
use crate::{contract::UserInfo, route::RequestInfo};

/// How much is written, from less to more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is no audit policy")]
    Parse(#[source] serde_yaml::Error),
    #[error("it is a {api_version} {kind}; an audit.k8s.io/v1 Policy is what is read")]
    Kind { api_version: String, kind: String },
    #[error("loaded illegal policy with 0 rules")]
    NoRules,
    #[error("{0}")]
    Invalid(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    /// For tools; it means nothing here, as upstream has it.
    #[serde(default, rename = "metadata")]
    _metadata: Value,
    #[serde(default)]
    rules: Vec<RuleSpec>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RuleSpec {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    /// By [`Stage`].
    omitted: [bool; 4],
    pub omit_managed_fields: bool,
}

impl Verdict {
    pub(crate) fn omits(&self, stage: Stage) -> bool {
        self.omitted[stage as usize]
    }
}

struct Rule {
    spec: RuleSpec,
    /// `None`: nothing is written.
    verdict: Option<Verdict>,
}

pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        Self::parse(&std::fs::read(path).map_err(PolicyError::Read)?)
    }

    /// YAML or JSON. What is not known is refused, so that no rule is taken for a wider one than was meant.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let document: Document = serde_yaml::from_slice(text).map_err(PolicyError::Parse)?;
        let Document { api_version, kind, _metadata, rules, omit_stages, omit_managed_fields } = document;
        if (&*api_version, &*kind) != ("audit.k8s.io/v1", "Policy") {
            return Err(PolicyError::Kind { api_version, kind });
        }
        let errors = faults(&rules, &omit_stages);
        if !errors.is_empty() {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(PolicyError::Invalid(all.join("; ")));
        }
        if rules.is_empty() {
            return Err(PolicyError::NoRules);
        }
        let rule = |spec: RuleSpec| {
            let level = match &*spec.level {
                "Metadata" => Some(Level::Metadata),
                "Request" => Some(Level::Request),
                "RequestResponse" => Some(Level::RequestResponse),
                _ => None,
            };
            let is_omitted =
                |stage: &Stage| spec.omit_stages.iter().chain(&omit_stages).any(|omitted| omitted == stage.as_str());
            let verdict = level.map(|level| Verdict {
                level,
                omitted: Stage::ALL.map(|stage| is_omitted(&stage)),
                omit_managed_fields: spec.omit_managed_fields.unwrap_or(omit_managed_fields),
            });
            Rule { spec, verdict }
        };
        Ok(Self { rules: rules.into_iter().map(rule).collect() })
    }

    /// Without a user where nobody could be told from the credentials.
    pub fn judge(&self, user: Option<&UserInfo>, info: &RequestInfo) -> Option<Verdict> {
        self.rules.iter().find(|rule| rule.spec.covers(user, info))?.verdict
    }
}

impl RuleSpec {
    fn covers(&self, user: Option<&UserInfo>, info: &RequestInfo) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|one| one == value);
        let is_member = |user: &UserInfo| user.groups.iter().any(|group| has(&self.user_groups, group));
        (self.users.is_empty() || user.is_some_and(|user| has(&self.users, &user.name)))
            && (self.user_groups.is_empty() || user.is_some_and(is_member))
            && (self.verbs.is_empty() || has(&self.verbs, info.verb))
            && match (self.namespaces.is_empty() && self.resources.is_empty(), self.urls.is_empty()) {
                (false, _) => {
                    info.is_resource
                        && (self.namespaces.is_empty() || has(&self.namespaces, &info.namespace))
                        && (self.resources.is_empty() || self.resources.iter().any(|one| one.covers(info)))
                }
                (true, false) => !info.is_resource && self.urls.iter().any(|url| is_below(&info.path, url)),
                (true, true) => true,
            }
    }
}

fn is_below(path: &str, url: &str) -> bool {
    url == path || url.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

impl GroupResources {
    fn covers(&self, info: &RequestInfo) -> bool {
        let RequestInfo { group, resource, subresource, name, .. } = info;
        let is_named = |one: &String| match one.split_once('/') {
            _ if one == "*" => true,
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((main, "*")) => main == resource,
            Some((main, sub)) => main == resource && sub == subresource,
            None => one == resource && subresource.is_empty(),
        };
        self.group == *group
            && (self.resources.is_empty()
                || (self.resource_names.is_empty() || self.resource_names.contains(name))
                    && self.resources.iter().any(is_named))
    }
}

fn faults(rules: &[RuleSpec], omit_stages: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    stages(omit_stages, &FieldPath::new("omitStages"), &mut errors);
    let list = FieldPath::new("rules");
    for (i, rule) in rules.iter().enumerate() {
        let at = list.index(i);
        if rule.level.is_empty() {
            errors.push(FieldError::required(&at.child("level"), ""));
        } else if !LEVELS.contains(&&*rule.level) {
            errors.push(FieldError::not_supported(&at.child("level"), rule.level.clone(), &LEVELS));
        }
        urls(rule, &at, &mut errors);
        for resource in &rule.resources {
            let at = at.child("resources");
            if !resource.group.is_empty() {
                let faults = names::subdomain(&resource.group).into_iter();
                errors.extend(faults.map(|fault| FieldError::invalid(&at.child("group"), &*resource.group, fault)));
            }
            if !resource.resource_names.is_empty() && resource.resources.is_empty() {
                let words = "using resourceNames requires at least one resource";
                errors.push(FieldError::invalid(&at.child("resourceNames"), resource.resource_names.clone(), words));
            }
        }
        stages(&rule.omit_stages, &at.child("omitStages"), &mut errors);
    }
    errors
}

fn urls(rule: &RuleSpec, at: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let list = at.child("nonResourceURLs");
    for (i, url) in rule.urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        if !url.starts_with('/') {
            let words = "non-resource URL rules must begin with a '/' character";
            errors.push(FieldError::invalid(&list.index(i), &**url, words));
        }
        if url.strip_suffix('*').unwrap_or(url).contains('*') {
            let words = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(FieldError::invalid(&list.index(i), &**url, words));
        }
    }
    let has_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
    if has_resources && !rule.urls.is_empty() {
        let words = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(FieldError::invalid(&list, rule.urls.clone(), words));
    }
}

fn stages(omitted: &[String], at: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let known = Stage::ALL.map(Stage::as_str);
    for (i, stage) in omitted.iter().enumerate().filter(|(_, stage)| !known.contains(&&***stage)) {
        let words = format!("allowed stages are {}", known.join(","));
        errors.push(FieldError::invalid(&at.index(i), &**stage, words));
    }
}
