//! What a pod's spec asks of its node: that it is met, or refused with a reason, and never passed over.

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, eventually, image::BUSYBOX};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("what_a_node_cannot_do_it_says", refusals),
        ("a_resized_pod_may_use_what_it_got", resize),
        ("a_ready_pod_no_longer_says_why_it_was_not", conditions),
    ]
}

fn refusals(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("refusals")?;
    let wishes = [
        (
            "devices",
            "resourceClaims: [{name: r, resourceClaimName: c}]",
            "FailedScheduling",
            "resourceclaim.resource.k8s.io \"c\" not found",
        ),
        (
            "kernel",
            "securityContext: {sysctls: [{name: kernel.msgmax, value: '65536'}]}",
            "SysctlForbidden",
            "forbidden sysctl: \"kernel.msgmax\" not allowlisted",
        ),
        (
            "share",
            "volumes: [{name: v, iscsi: {targetPortal: '192.0.2.1:3260', iqn: 'iqn.2026-01.io.example:a', lun: 0}}]",
            "FailedMount",
            "iscsi volumes are not supported",
        ),
    ];
    for (name, wish, _, _) in wishes {
        let yaml = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {wish}\n  \
             containers: [{{name: c, image: '{BUSYBOX}', command: [sleep, '1000']}}]\n"
        );
        cluster.apply(&ns, &yaml)?;
    }
    for (name, _, reason, message) in wishes {
        eventually("the event", || {
            let events = cluster
                .kubectl(&format!("get events -n {ns} --field-selector involvedObject.name={name},reason={reason}"))?;
            ensure!(events.contains(message), "{name}: {events}");
            Ok(())
        })?;
    }
    cluster.expect(&format!("pod/kernel -n {ns}"), "{.status.phase} {.status.reason}", "Failed SysctlForbidden")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn resize(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("resize")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: grows}}\nspec:\n  containers: [{{name: c, image: '{BUSYBOX}', \
         command: [sleep, '1000'], resources: {{limits: {{memory: 16Mi, cpu: 100m}}}}}}]\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.kubectl(&format!("wait pod/grows -n {ns} --for=condition=Ready --timeout=60s"))?;
    let patch = r#"{"spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"64Mi","cpu":"500m"},"requests":{"memory":"64Mi","cpu":"500m"}}}]}}"#;
    cluster.kubectl_args(&["patch", "pod", "grows", "-n", &ns, "--subresource", "resize", "-p", patch])?;
    // Twice what it had before; where only the container grew, its pod would still be held to that.
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=32 2>/dev/null && wc -c < /dev/shm/x";
    let filled =
        eventually("there is room", || cluster.kubectl_args(&["exec", "grows", "-n", &ns, "--", "sh", "-c", fill]))?;
    ensure!(filled.trim() == "33554432", "{filled}");
    cluster.expect(&format!("pod/grows -n {ns}"), "{.status.containerStatuses[0].restartCount}", "0")?;
    let events = cluster.kubectl(&format!("get events -n {ns}"))?;
    ensure!(!events.contains("ResizeError"), "{events}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn conditions(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("conditions")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: late}}\nspec:\n  containers: [{{name: c, image: '{BUSYBOX}', \
         command: [sleep, '1000'], readinessProbe: {{exec: {{command: [test, -e, /ready]}}, periodSeconds: 1}}}}]\n"
    );
    cluster.apply(&ns, &yaml)?;
    let (pod, ready) = (format!("pod/late -n {ns}"), "{.status.conditions[?(@.type=='Ready')]");
    cluster.expect(&pod, &format!("{ready}.reason}}"), "ContainersNotReady")?;
    cluster.kubectl(&format!("exec late -n {ns} -- touch /ready"))?;
    cluster.expect(&pod, &format!("{ready}.status}}"), "True")?;
    let left = cluster.kubectl_args(&[
        "get",
        "pod",
        "late",
        "-n",
        &ns,
        "-o",
        &format!("jsonpath={ready}.reason}}{ready}.message}}"),
    ])?;
    ensure!(left.is_empty(), "a ready pod still says {left:?}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
