//! Parameters: the objects that a binding hands to its policy, in the version that the policy names.

use std::sync::Arc;

use knarr_api::selector::LabelSelector;
use serde_json::Value;

use crate::{
    contract::{Lookup, Stored},
    custom::Found,
    json::text,
    server::Inner,
};

/// The kind that a policy wants its parameters to be.
#[derive(Clone, Debug)]
pub(super) struct ParamKind {
    pub group: String,
    pub version: String,
    kind: String,
}

/// Which of them a binding names.
#[derive(Debug)]
pub(super) struct ParamRef {
    name: String,
    namespace: String,
    /// Where no name is given.
    selector: Result<LabelSelector, String>,
    denies_without: bool,
}

impl ParamKind {
    pub fn read(kind: &Value) -> Option<Self> {
        let api_version = kind["apiVersion"].as_str()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Some(Self { group: group.into(), version: version.into(), kind: text(&kind["kind"]).into() })
    }
}

impl ParamRef {
    pub fn read(reference: &Value) -> Option<Self> {
        reference.is_object().then(|| Self {
            name: text(&reference["name"]).to_owned(),
            namespace: text(&reference["namespace"]).to_owned(),
            selector: LabelSelector::from_value(&reference["selector"]).map_err(|error| error.to_string()),
            denies_without: reference["parameterNotFoundAction"] == "Deny",
        })
    }
}

/// Parameters: a name to tell them apart, and the object; null where there are none.
pub(super) struct Param {
    pub key: String,
    pub object: Value,
}

impl Inner {
    /// The resource of a policy's parameters. An error where there is no such resource now.
    pub(super) fn param_resource(&self, kind: Option<&ParamKind>) -> Result<Option<Found>, String> {
        let Some(kind) = kind else { return Ok(None) };
        let is_it = |row: &knarr_api::registry::Resource| {
            (row.group, row.version, row.kind) == (kind.group.as_str(), kind.version.as_str(), kind.kind.as_str())
        };
        let resource = self.catalogue.now().rows().find(|row| is_it(row)).ok_or_else(|| {
            format!(
                "failed to find resource referenced by paramKind: '{}/{}, Kind={}'",
                kind.group, kind.version, kind.kind
            )
        })?;
        Ok(Some(Found { resource, custom: self.catalogue.custom(resource) }))
    }

    /// The parameters to evaluate a binding with, one after the other. None: the binding is passed over.
    pub(super) async fn params(
        &self,
        found: Option<&Found>,
        reference: Option<&ParamRef>,
        namespace: &str,
    ) -> Result<Vec<Param>, String> {
        let (Some(found), Some(reference)) = (found, reference) else {
            return Ok(vec![Param { key: String::new(), object: Value::Null }]);
        };
        let namespace = match (found.resource.namespaced, reference.namespace.as_str()) {
            (true, "") if namespace.is_empty() => {
                let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Err(why.to_owned());
            }
            (true, "") => namespace,
            (true, named) => named,
            (false, "") => "",
            (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        };
        let stored = self.named_or_selected(found, reference, namespace).await?;
        if stored.is_empty() && reference.denies_without {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        let mut all = Vec::with_capacity(stored.len());
        for one in stored {
            let key = one.key.to_string();
            let shown = self.in_version(found.resource, found.custom.as_deref(), one).await;
            let object = shown.map_err(|error| error.message().to_owned())?.value();
            all.push(Param { key, object });
        }
        Ok(all)
    }

    async fn named_or_selected(
        &self,
        found: &Found,
        reference: &ParamRef,
        namespace: &str,
    ) -> Result<Vec<Arc<Stored>>, String> {
        let resource = found.custom.as_ref().map_or_else(|| found.resource.stored_as(), |custom| custom.stored);
        if reference.name.is_empty() {
            let selector = reference.selector.as_ref().map_err(String::clone)?;
            let mut all = self.lookup.list(resource, namespace);
            all.retain(|one| selector.matches_pairs(one.labels.iter().map(|(key, value)| (&**key, &**value))));
            return Ok(all);
        }
        if let Some(one) = self.lookup.get(resource, namespace, &reference.name) {
            return Ok(vec![one]);
        }
        // It may have been made a moment ago.
        let fresh = self.lookup.get_fresh(resource, namespace, &reference.name).await;
        Ok(fresh.map_err(|error| error.message().to_owned())?.into_iter().collect())
    }
}
