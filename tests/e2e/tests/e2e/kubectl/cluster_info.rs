//! What kubectl tells of a cluster as a whole.

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, eventually};

use super::{Kubectl, is_table};
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("kubectl_api_resources_and_versions", api),
        ("kubectl_cluster_info_and_its_dump", info),
        ("kubectl_events_and_top", events),
        ("kubectl_kustomize", kustomize),
    ]
}

/// Upstream's group versions that are on without anybody's asking, what Knarr has built in besides, and trust bundles.
const VERSIONS: &str = "admissionregistration.k8s.io/v1
apiextensions.k8s.io/v1
apiregistration.k8s.io/v1
apps/v1
authentication.k8s.io/v1
authorization.k8s.io/v1
autoscaling/v1
autoscaling/v2
batch/v1
certificates.k8s.io/v1
certificates.k8s.io/v1beta1
coordination.k8s.io/v1
discovery.k8s.io/v1
events.k8s.io/v1
flowcontrol.apiserver.k8s.io/v1
metrics.k8s.io/v1beta1
networking.k8s.io/v1
node.k8s.io/v1
policy/v1
rbac.authorization.k8s.io/v1
resource.k8s.io/v1
scheduling.k8s.io/v1
storage.k8s.io/v1
v1";

fn api(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "api")?;
    kubectl.say(&[("api-versions", VERSIONS)])?;
    kubectl.table(
        "api-resources --api-group=apps",
        &[
            "NAME SHORTNAMES APIVERSION NAMESPACED KIND",
            "controllerrevisions apps/v1 true ControllerRevision",
            "daemonsets ds apps/v1 true DaemonSet",
            "deployments deploy apps/v1 true Deployment",
            "replicasets rs apps/v1 true ReplicaSet",
            "statefulsets sts apps/v1 true StatefulSet",
        ],
    )?;
    let verbs = "create,delete,deletecollection,get,list,patch,update,watch";
    kubectl.table(
        "api-resources --api-group=batch -o wide --no-headers --sort-by=name",
        &[&format!("cronjobs cj batch/v1 true CronJob {verbs} all"), &format!("jobs batch/v1 true Job {verbs} all")],
    )?;
    kubectl.say(&[
        (
            "api-resources --categories=all -o name",
            "pods\nreplicationcontrollers\nservices\ndaemonsets.apps\ndeployments.apps\nreplicasets.apps\nstatefulsets.apps\n\
             horizontalpodautoscalers.autoscaling\ncronjobs.batch\njobs.batch",
        ),
        (
            "api-resources --namespaced=false --api-group=storage.k8s.io -o name",
            "csidrivers.storage.k8s.io\ncsinodes.storage.k8s.io\nstorageclasses.storage.k8s.io\n\
             volumeattachments.storage.k8s.io\nvolumeattributesclasses.storage.k8s.io",
        ),
        ("api-resources --verbs=create --api-group=authorization.k8s.io --namespaced=true -o name", "localsubjectaccessreviews.authorization.k8s.io"),
    ])?;
    kubectl.end()
}

fn info(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "info")?;
    kubectl.ask("create deployment web --image=knarr.local/demo:v1")?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    let server = cluster.get_raw_config()?.server;
    let said = kubectl.ask("cluster-info -n kube-system")?;
    let wanted = format!(
        "Kubernetes control plane is running at {server}\nCoreDNS is running at \
         {server}/api/v1/namespaces/kube-system/services/kube-dns:dns/proxy\n\n\
         To further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.\n"
    );
    ensure!(said == wanted, "{said}");
    kubectl.say(&[("cluster-info dump --namespaces=NS --output-directory=dump", "Cluster info dumped to dump")])?;
    let dump = cluster.scratch().join("dump");
    let nodes: serde_json::Value = serde_json::from_slice(&std::fs::read(dump.join("nodes.json"))?)?;
    ensure!(nodes["kind"] == "NodeList" && nodes["items"][0]["metadata"]["name"] == "node-1", "{nodes}");
    let of_ns = dump.join(&kubectl.ns);
    for (file, kind) in [
        ("events", "EventList"),
        ("replication-controllers", "ReplicationControllerList"),
        ("services", "ServiceList"),
        ("daemonsets", "DaemonSetList"),
        ("deployments", "DeploymentList"),
        ("replicasets", "ReplicaSetList"),
        ("pods", "PodList"),
    ] {
        let list: serde_json::Value = serde_json::from_slice(&std::fs::read(of_ns.join(format!("{file}.json")))?)?;
        ensure!(list["kind"] == kind, "{file}: {list}");
    }
    let pod = kubectl.ask("get pods -o jsonpath={.items[0].metadata.name}")?;
    let log = std::fs::read_to_string(of_ns.join(pod).join("logs.txt"))?;
    ensure!(log.starts_with("==== START logs for container demo of pod "), "{log}");
    kubectl.end()
}

fn events(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "events")?;
    kubectl
        .refuse(&[("top pod none", "Error from server (NotFound): podmetrics.metrics.k8s.io \"NS/none\" not found")])?;
    kubectl.say(&[("events", "No events found in NS namespace.")])?;
    kubectl.ask("create deployment web --image=knarr.local/demo:v1")?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    eventually("all events are there", || {
        kubectl.table(
            "events --for deployment/web --no-headers",
            &["* Normal ScalingReplicaSet Deployment/web Scaled up replica set * from 0 to 1"],
        )
    })?;
    kubectl.say(&[("events --types=Warning", "No events found in NS namespace.")])?;
    let pod = kubectl.ask("get pods -o jsonpath={.items[0].metadata.name}")?;
    let listed = format!("* Normal Scheduled Pod/{pod} Successfully assigned {}/{pod} to node-1", kubectl.ns);
    eventually("the pod's events are there, in their order", || {
        let text = kubectl.ask(&format!("events --for pod/{pod} --no-headers"))?;
        let first = text.lines().next().unwrap_or_default();
        ensure!(is_table(first, &[&listed]), "{text}");
        Ok(())
    })?;
    eventually("there are metrics", || {
        kubectl.table("top pod", &["NAME CPU(cores) MEMORY(bytes)", &format!("{pod} * *")])?;
        kubectl.table(&format!("top pod {pod} --containers --no-headers"), &[&format!("{pod} demo * *")])?;
        kubectl.table("top node", &["NAME CPU(cores) CPU(%) MEMORY(bytes) MEMORY(%)", "node-1 * * * *"])
    })?;
    kubectl.end()
}

fn kustomize(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "kustomize")?;
    let dir = cluster.scratch().join("kustomized");
    std::fs::create_dir_all(&dir)?;
    let file = "resources: [map.yaml]\nnamePrefix: pre-\nlabels: [{pairs: {a: b}}]\nconfigMapGenerator: [{name: made, literals: [x=y]}]\n";
    std::fs::write(dir.join("kustomization.yaml"), file)?;
    std::fs::write(dir.join("map.yaml"), "{apiVersion: v1, kind: ConfigMap, metadata: {name: map}, data: {a: b}}")?;
    let made = "apiVersion: v1\ndata:\n  x: \"y\"\nkind: ConfigMap\nmetadata:\n  labels:\n    a: b\n  name: pre-made-6gc9d749f7\n";
    let map = "apiVersion: v1\ndata:\n  a: b\nkind: ConfigMap\nmetadata:\n  labels:\n    a: b\n  name: pre-map\n";
    kubectl.say(&[("kustomize kustomized", &format!("{made}---\n{map}"))])?;
    kubectl.say(&[
        ("apply -k kustomized", "configmap/pre-made-6gc9d749f7 created\nconfigmap/pre-map created"),
        ("diff -k kustomized", ""),
        ("get -k kustomized -o name", "configmap/pre-made-6gc9d749f7\nconfigmap/pre-map"),
        ("delete -k kustomized", "configmap \"pre-made-6gc9d749f7\" deleted from NS namespace\nconfigmap \"pre-map\" deleted from NS namespace"),
    ])?;
    kubectl.end()
}
