//! What a pod was promised: the amounts it was taken in with, or those of the last resize that its node agreed to. Its
//! containers are made with these, whatever its spec wishes for meanwhile. Kept beside the pod's volumes, so that an
//! agent that is started again keeps its promises.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};

const FILE: &str = "allocated-resources";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    pod: Option<ResourceRequirements>,
    containers: BTreeMap<String, ResourceRequirements>,
}

/// Init containers are over before anyone could resize them.
fn is_resizable(container: &Container, is_init: bool) -> bool {
    !is_init || container.restart_policy.as_deref() == Some("Always")
}

impl Allocation {
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let init = spec.init_containers.iter().flatten().map(|container| (container, true));
        let all = init.chain(spec.containers.iter().map(|container| (container, false)));
        let resizable = all.filter(|(container, is_init)| is_resizable(container, *is_init));
        let amounts =
            resizable.map(|(container, _)| (container.name.clone(), container.resources.clone().unwrap_or_default()));
        Self { pod: spec.resources.clone(), containers: amounts.collect() }
    }

    /// The pod with these amounts in place of those it wishes for.
    pub fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if Self::of(pod) == *self {
            return pod.clone();
        }
        let mut pod = Pod::clone(pod);
        if let Some(spec) = &mut pod.spec {
            spec.resources.clone_from(&self.pod);
            let init = spec.init_containers.iter_mut().flatten().map(|container| (container, true));
            let all = init.chain(spec.containers.iter_mut().map(|container| (container, false)));
            for (container, is_init) in all {
                if let Some(amounts) = self.containers.get(&container.name)
                    && is_resizable(container, is_init)
                {
                    container.resources = Some(amounts.clone());
                }
            }
        }
        Arc::new(pod)
    }

    /// Nothing where the pod is new here.
    pub async fn load(pod_dir: &Path) -> io::Result<Option<Self>> {
        let path = pod_dir.join(FILE);
        match knarr_os::aside(move || fs::read(path)).await.map_err(io::Error::other)? {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn save(&self, pod_dir: &Path) -> io::Result<()> {
        let (pod_dir, text) = (pod_dir.to_owned(), serde_json::to_vec(self)?);
        let written = knarr_os::aside(move || {
            let new = pod_dir.join(format!("{FILE}.new"));
            fs::create_dir_all(&pod_dir)?;
            fs::write(&new, text)?;
            fs::rename(&new, pod_dir.join(FILE))
        });
        written.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn pod(amount: &str) -> Arc<Pod> {
        let resources: Value = json!({"requests": {"cpu": amount}});
        let spec = json!({
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "9"}}}, {"name": "s", "restartPolicy": "Always", "resources": resources}],
            "containers": [{"name": "a", "image": amount, "resources": resources}],
        });
        Arc::new(from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
    }

    #[tokio::test]
    async fn what_was_promised_stays_until_it_is_promised_anew() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Allocation::load(dir.path()).await.unwrap(), None);
        let promised = Allocation::of(&pod("1"));
        promised.save(dir.path()).await.unwrap();
        let known = Allocation::load(dir.path()).await.unwrap().unwrap();
        assert_eq!(known, promised);
        let given = known.apply(&pod("2"));
        assert_eq!(Allocation::of(&given), promised);
        assert_eq!(given.spec.as_ref().unwrap().containers[0].image.as_deref(), Some("2"), "the rest is as it is now");
    }
}
