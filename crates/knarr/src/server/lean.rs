//! What controllers and scheduler hold of pods. There are more pods than anything else, and most of a pod is what only
//! its node acts on: typed, a variable of the environment takes 360 bytes and a volume 3,200.

use std::any::Any;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

/// Keeps of a pod's containers what they are counted and reached by, and of its volumes the claims. Nobody here writes
/// a whole pod back.
pub fn slim(object: &mut dyn Any) {
    let Some(spec) = object.downcast_mut::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        *container = counted(std::mem::take(container));
    }
    spec.containers.shrink_to_fit();
    spec.ephemeral_containers = None;
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(is_claim);
        volumes.shrink_to_fit();
    }
}

fn counted(container: Container) -> Container {
    let Container { name, image, ports, resources, restart_policy, .. } = container;
    Container { name, image, ports, resources, restart_policy, ..Container::default() }
}

fn is_claim(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_counted_and_claimed_stays() {
        let pod = |container: serde_json::Value, volumes: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "b"}},
                "spec": {"nodeName": "n", "containers": [container], "volumes": volumes},
                "status": {"phase": "Running"}}))
            .unwrap()
        };
        let kept = json!({"name": "c", "image": "i", "ports": [{"containerPort": 80}],
            "resources": {"requests": {"cpu": "1"}}});
        let mut whole = kept.clone();
        whole["env"] = json!([{"name": "A", "value": "1"}]);
        whole["livenessProbe"] = json!({"httpGet": {"port": 80}});
        whole["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let claims =
            json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "ephemeral": {}}]);
        let mut volumes = claims.clone();
        volumes.as_array_mut().unwrap().push(json!({"name": "m", "configMap": {"name": "m"}}));
        let mut slimmed = pod(whole, volumes);
        slim(&mut slimmed);
        assert_eq!(slimmed, pod(kept, claims));
    }
}
