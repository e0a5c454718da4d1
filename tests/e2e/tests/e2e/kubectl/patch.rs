//! `kubectl patch` of every type, of objects and of their parts; and parts shown by themselves.

use anyhow::Result;
use knarr_e2e::Cluster;

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_patch_of_every_type", types), ("kubectl_shows_and_patches_subresources", subresources)]
}

fn types(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "patch")?;
    kubectl.ask("create deployment web --image=one --image=two --replicas=0")?;
    let images = "get deployment web -o jsonpath={.spec.template.spec.containers[*].image}";
    kubectl.say(&[
        (
            r#"patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"two","image":"x"}]}}}}'"#,
            "deployment.apps/web patched",
        ),
        (images, "one x"),
        (
            r#"patch deployment web --type=merge -p '{"spec":{"template":{"spec":{"containers":[{"name":"two","image":"y"}]}}}}'"#,
            "deployment.apps/web patched",
        ),
        (images, "y"),
        (
            r#"patch deployment web --type=json -p '[{"op":"test","path":"/spec/replicas","value":0},{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"z","image":"z"}}]'"#,
            "deployment.apps/web patched",
        ),
        (images, "y z"),
        (
            r#"patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"$patch":"delete","name":"two"}]}}}}'"#,
            "deployment.apps/web patched",
        ),
        (images, "z"),
        (r#"patch deployment web -p '{"spec":{"replicas":0}}'"#, "deployment.apps/web patched (no change)"),
        // kubectl does not say that this was no more than a try.
        (r#"patch deployment web -p '{"spec":{"paused":true}}' --dry-run=server"#, "deployment.apps/web patched"),
        ("get deployment web -o jsonpath={.spec.paused}", ""),
    ])?;
    kubectl.refuse(&[
        ("patch deployment web -p {", "Error from server (BadRequest): unexpected end of JSON input"),
        (
            "patch deployment web --type=merge -p {",
            "Error from server (BadRequest): error decoding patch: unexpected end of JSON input",
        ),
        (
            r#"patch deployment none -p '{"spec":{"replicas":0}}'"#,
            "Error from server (NotFound): deployments.apps \"none\" not found",
        ),
        (
            r#"patch deployment web -p '{"spec":{"selector":{"matchLabels":{"app":"other"}}}}'"#,
            "The Deployment \"web\" is invalid: \n* spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: \
             `selector` does not match template `labels`\n* spec.selector: Invalid value: \
             {\"matchLabels\":{\"app\":\"other\"}}: field is immutable",
        ),
        (
            r#"patch deployment web --type=merge -p '{"spec":{"replicas":-1}}'"#,
            "The Deployment \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
    ])?;
    kubectl.end()
}

fn subresources(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "parts")?;
    kubectl.ask("create deployment web --image=knarr.local/demo:v1 --replicas=1")?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    kubectl.table("get deployment web --subresource=scale", &["NAME DESIRED AVAILABLE AGE", "web 1 1 *"])?;
    kubectl
        .table("get deployment web --subresource=status", &["NAME READY UP-TO-DATE AVAILABLE AGE", "web 1/1 1 1 *"])?;
    kubectl.say(&[
        (
            "get deployment web --subresource=scale -o 'jsonpath={.apiVersion} {.kind} {.spec} {.status}'",
            r#"autoscaling/v1 Scale {"replicas":1} {"replicas":1,"selector":"app=web"}"#,
        ),
        (
            r#"patch deployment web --subresource=scale --type=merge -p '{"spec":{"replicas":2}}'"#,
            "scale.autoscaling/web patched",
        ),
        ("get deployment web -o jsonpath={.spec.replicas}", "2"),
        (
            r#"patch node node-1 --subresource=status --type=json -p '[{"op":"add","path":"/status/capacity/example.com~1dongle","value":"4"}]'"#,
            "node/node-1 patched",
        ),
        (r"get node node-1 -o jsonpath={.status.capacity.example\.com/dongle}", "4"),
        (
            r#"patch node node-1 --subresource=status --type=json -p '[{"op":"remove","path":"/status/capacity/example.com~1dongle"}]'"#,
            "node/node-1 patched",
        ),
        // Through status, only status is written.
        (
            r#"patch deployment web --subresource=status --type=merge -p '{"spec":{"replicas":9},"status":{"collisionCount":3}}'"#,
            "deployment.apps/web patched",
        ),
        ("get deployment web -o 'jsonpath={.spec.replicas} {.status.collisionCount}'", "2 3"),
    ])?;
    kubectl.refuse(&[(
        "get deployment web --subresource=nothing",
        "Error from server (NotFound): the server could not find the requested resource (get deployments.apps web)",
    )])?;
    kubectl.end()
}
