//! The templates that a DaemonSet or StatefulSet had, each a ControllerRevision: what `kubectl rollout history` lists
//! and `kubectl rollout undo` goes back to.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use knarr_client::{
    Outcome,
    call::{self, Kind},
    errors, meta,
};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::fnv;
use crate::{Context, Error};

/// On pods: which revision they are of.
pub const OF_POD: &str = "controller-revision-hash";

/// The revision of the template as it is now.
pub enum Newest {
    Is(Arc<ControllerRevision>),
    /// Something else has its name: the owner's collisionCount has to grow, for another name.
    Collision,
}

/// What has to be done for the newest revision to be that of the template. Pure.
#[derive(Debug, PartialEq)]
enum Step {
    /// An old template is wanted again, as after an undo: its revision becomes the newest.
    Raise(usize, i64),
    Keep(usize),
    Create(i64),
}

/// As kubectl sends it when it undoes: a strategic merge patch of the owner.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

pub fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Error> {
    let mut template = revision.data.as_ref().map(|data| data.0["spec"]["template"].clone()).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    serde_json::from_value(template)
        .map_err(|error| Error::Malformed { field: "revision's data", message: error.to_string() })
}

pub fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|a, b| (a.revision, &a.metadata.name).cmp(&(b.revision, &b.metadata.name)));
}

/// `revisions` are sorted.
fn step(revisions: &[Arc<ControllerRevision>], wanted: &Value) -> Step {
    let is_same = |revision: &Arc<ControllerRevision>| revision.data.as_ref().is_some_and(|data| data.0 == *wanted);
    let newest = revisions.last().map_or(0, |revision| revision.revision);
    match revisions.iter().rposition(is_same) {
        Some(at) if at + 1 == revisions.len() => Step::Keep(at),
        Some(at) => Step::Raise(at, newest + 1),
        None => Step::Create(newest + 1),
    }
}

/// Makes sure that there is a revision of the owner's template, and that it is the newest. `hash_label` is what carries
/// the hash on revisions of this kind.
pub async fn sync<O: Kind>(
    context: &Context,
    owner: &O,
    template: &PodTemplateSpec,
    revisions: &[Arc<ControllerRevision>],
    collisions: Option<i32>,
    hash_label: &str,
) -> Result<Newest, Error> {
    let wanted = data(template);
    match step(revisions, &wanted) {
        Step::Keep(at) => Ok(Newest::Is(revisions[at].clone())),
        Step::Raise(at, revision) => {
            let version = &revisions[at].metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "revision": revision});
            let raised = call::merge(&context.client, &*revisions[at], patch).await;
            raised.map(|raised| Newest::Is(Arc::new(raised))).map_err(Error::api("raising an old revision"))
        }
        Step::Create(number) => {
            let revision = new(owner, template, wanted, number, collisions, hash_label);
            create(context, owner, revision).await
        }
    }
}

async fn create<O: Kind>(context: &Context, owner: &O, revision: ControllerRevision) -> Result<Newest, Error> {
    let error = match call::create(&context.client, &revision).await {
        Ok(created) => return Ok(Newest::Is(Arc::new(created))),
        Err(error) => error,
    };
    if !errors::is_already_exists(&error) {
        return Err(Error::Api { what: "creating a revision", source: error });
    }
    let (namespace, name) = (meta::namespace(&revision.metadata), meta::name(&revision.metadata));
    let there = call::get::<ControllerRevision>(&context.client, namespace, name).await;
    match there.map_err(Error::api("reading a revision of the same name"))? {
        Some(there)
            if there.data == revision.data && meta::is_controlled_by(&there.metadata, meta::uid(owner.meta())) =>
        {
            Ok(Newest::Is(Arc::new(there)))
        }
        _ => Ok(Newest::Collision),
    }
}

fn new<O: Kind>(
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    revision: i64,
    collisions: Option<i32>,
    hash_label: &str,
) -> ControllerRevision {
    let mut bytes = data.to_string().into_bytes();
    bytes.extend(collisions.into_iter().flat_map(i32::to_le_bytes));
    let hash = fnv::safe_encode(fnv::fnv1a_32(&bytes));
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(hash_label.to_owned(), hash.clone());
    let annotations = owner.meta().annotations.clone().filter(|annotations: &BTreeMap<_, _>| !annotations.is_empty());
    ControllerRevision {
        data: Some(RawExtension(data)),
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(owner.meta()))),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations,
            owner_references: Some(vec![meta::controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        revision,
    }
}

/// Another name for the next revision, where the present one is a stranger's: the hash of a template takes the number
/// of collisions in. `count_of` is where the owner keeps that number.
pub async fn count_collision<O: Kind + Clone>(
    context: &Context,
    owner: &O,
    count_of: fn(&mut O) -> &mut Option<i32>,
) -> Result<Outcome, Error> {
    let mut changed = owner.clone();
    let count = count_of(&mut changed);
    *count = Some(count.unwrap_or(0) + 1);
    let written = errors::optional(call::replace_status(&context.client, &changed).await);
    written.map(|_| Outcome::Done).map_err(Error::api("counting a name collision"))
}

/// Deletes the oldest of those revisions that nothing is of, beyond the limit.
pub async fn truncate(
    context: &Context,
    revisions: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    is_live: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Error> {
    let old: Vec<_> = revisions.iter().filter(|revision| !is_live(revision)).collect();
    let excess = old.len().saturating_sub(limit.unwrap_or(10).max(0) as usize);
    for revision in &old[..excess] {
        let deleted = call::delete(&context.client, &***revision, DeleteParams::default()).await;
        deleted.map_err(Error::api("deleting an old revision"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: i64, image: &str) -> Arc<ControllerRevision> {
        let data = json!({"spec": {"template": {"$patch": "replace", "spec": {"containers": [{"name": image}]}}}});
        Arc::new(ControllerRevision { data: Some(RawExtension(data)), revision: number, ..Default::default() })
    }

    #[test]
    fn the_newest_revision_is_that_of_the_template() {
        let history = [revision(1, "a"), revision(2, "b"), revision(4, "c")];
        for (image, expected) in [("c", Step::Keep(2)), ("a", Step::Raise(0, 5)), ("d", Step::Create(5))] {
            let template = template(&revision(0, image)).unwrap();
            assert_eq!(step(&history, &data(&template)), expected, "{image}");
        }
        assert_eq!(step(&[], &json!({})), Step::Create(1));
    }
}
