//! Static pods: manifests in a folder, run without being asked by the API, and shown there by a mirror.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Pod, Toleration},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use knarr_client::{Informer, errors};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::Value;

use crate::pod::{context::Context, labels, manager::Manager};

const PERIOD: Duration = Duration::from_secs(1);

pub struct StaticPods {
    dir: PathBuf,
    ctx: Arc<Context>,
    manager: Manager,
    /// The API's pods of this node, mirrors among them.
    pods: Informer<Pod>,
}

impl StaticPods {
    pub fn new(dir: PathBuf, ctx: Arc<Context>, manager: Manager, pods: Informer<Pod>) -> Self {
        Self { dir, ctx, manager, pods }
    }

    /// Passes on what the folder holds now; answers the pods by UID.
    pub async fn read_once(&self) -> HashMap<String, Arc<Pod>> {
        let (dir, node) = (self.dir.clone(), self.ctx.node_name.clone());
        let read = tokio::task::spawn_blocking(move || read_folder(&dir, &node)).await;
        let pods = match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(pods) => pods,
            Err(error) => {
                tracing::warn!(path = %self.dir.display(), %error, "the folder of static pods cannot be read");
                Vec::new()
            }
        };
        let mut found = HashMap::new();
        for pod in pods {
            let pod = Arc::new(pod);
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            // Another of that name has to end before: both may want the same port.
            let others = self.manager.pods();
            if !others.iter().any(|other| other.metadata.uid == pod.metadata.uid || are_namesakes(other, &pod)) {
                self.manager.want(pod.clone());
            }
            found.insert(uid, pod);
        }
        found
    }

    /// Follows the folder, and keeps the mirrors as they should be.
    pub async fn run(&self) {
        let mut known: HashMap<String, Arc<Pod>> = HashMap::new();
        loop {
            let found = self.read_once().await;
            for uid in known.keys().filter(|uid| !found.contains_key(*uid)) {
                self.manager.forget(uid);
            }
            known = found;
            if let Err(error) = self.mirror(&known).await {
                tracing::debug!(%error, "the mirrors of static pods are not up to date; will retry");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn mirror(&self, statics: &HashMap<String, Arc<Pod>>) -> Result<(), kube::Error> {
        let mut present = HashMap::new();
        for pod in self.pods.list() {
            let Some(hash) = annotation(&pod, labels::CONFIG_MIRROR) else { continue };
            if statics.contains_key(hash) && pod.metadata.deletion_timestamp.is_none() {
                present.insert(hash.to_owned(), pod.clone());
                continue;
            }
            let api: Api<Pod> =
                Api::namespaced(self.ctx.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
            let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            match api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &params).await {
                Err(error) if !errors::is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
        let mut made_anew = Vec::new();
        for (hash, pod) in statics {
            if present.contains_key(hash) {
                continue;
            }
            let Some(node) = self.ctx.node.get("", &self.ctx.node_name) else { return Ok(()) };
            let mut mirror = Pod::clone(pod);
            mirror.metadata.uid = None;
            mirror.metadata.annotations.get_or_insert_default().insert(labels::CONFIG_MIRROR.to_owned(), hash.clone());
            mirror.metadata.owner_references = Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: self.ctx.node_name.clone(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]);
            let api: Api<Pod> =
                Api::namespaced(self.ctx.client.clone(), mirror.metadata.namespace.as_deref().unwrap_or_default());
            match api.create(&PostParams::default(), &mirror).await {
                Ok(made) => {
                    present.insert(hash.clone(), Arc::new(made));
                    made_anew.push(hash);
                }
                Err(error) if errors::is_already_exists(&error) => {}
                Err(error) => return Err(error),
            }
        }
        // Workers begin to write as soon as there is something to write to.
        self.ctx.set_mirrors(present);
        for hash in made_anew {
            self.manager.wake(hash);
        }
        Ok(())
    }
}

fn are_namesakes(one: &Pod, other: &Pod) -> bool {
    (&one.metadata.namespace, &one.metadata.name) == (&other.metadata.namespace, &other.metadata.name)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pods of a folder, sorted by file. A file that cannot be understood is left out, with a word in the log.
fn read_folder(dir: &Path, node: &str) -> io::Result<Vec<Pod>> {
    let mut files: Vec<PathBuf> = match fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    files.retain(|path| {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|ext| matches!(ext.to_str(), Some("yaml" | "yml" | "json")))
    });
    files.sort();
    let mut pods = Vec::new();
    for path in files {
        match fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| parse(&text, &path, node)) {
            Ok(pod) => pods.push(pod),
            Err(error) => tracing::warn!(path = %path.display(), error, "this static pod cannot be used"),
        }
    }
    Ok(pods)
}

/// A manifest as the node runs it: named after the node, identified by its content.
pub(crate) fn parse(text: &str, path: &Path, node: &str) -> Result<Pod, String> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    if value.get("kind").and_then(Value::as_str) != Some("Pod") {
        return Err("only a Pod can be static".to_owned());
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{node}\0{}\0{text}", path.display()).as_bytes());
    let hash: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let meta = &mut pod.metadata;
    let name = meta.name.clone().ok_or("metadata.name is missing")?;
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid = Some(hash.clone());
    let own = [(labels::CONFIG_SOURCE, "file".to_owned()), (labels::CONFIG_HASH, hash)];
    let own: BTreeMap<_, _> = own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    meta.annotations.get_or_insert_default().extend(own);
    let spec = pod.spec.as_mut().ok_or("spec is missing")?;
    spec.node_name = Some(node.to_owned());
    let everything = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    spec.tolerations.get_or_insert_default().push(everything);
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: b}]}\n";
        let pod = parse(text, Path::new("/m/web.yaml"), "n1").unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-n1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(annotation(&pod, labels::CONFIG_HASH), pod.metadata.uid.as_deref());
        let changed = parse(&text.replace("image: b", "image: c"), Path::new("/m/web.yaml"), "n1").unwrap();
        assert_ne!(changed.metadata.uid, pod.metadata.uid);
    }

    #[test]
    fn what_is_no_pod_is_refused_with_the_reason() {
        for (text, expected) in [
            ("kind: Deployment", "only a Pod can be static"),
            ("kind: Pod\nmetadata: {}", "metadata.name is missing"),
            ("kind: Pod\nmetadata: {name: a}", "spec is missing"),
        ] {
            assert_eq!(parse(text, Path::new("x.yaml"), "n").unwrap_err(), expected);
        }
        assert!(parse("{{", Path::new("x.yaml"), "n").is_err());
    }
}
