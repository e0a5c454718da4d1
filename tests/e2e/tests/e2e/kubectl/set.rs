//! `kubectl set`, and what `kubectl rollout` and `kubectl scale` say to whom they cannot help.

use anyhow::Result;
use knarr_e2e::Cluster;

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_set", set), ("kubectl_rollout_and_scale_refuse", rollout)]
}

fn set(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "set")?;
    kubectl.ask("create deployment web --image=one --image=two --replicas=0")?;
    kubectl.ask("create configmap conf --from-literal=colour=red")?;
    kubectl.ask("create service clusterip web --tcp=80")?;
    kubectl.ask("create serviceaccount robot")?;
    kubectl.ask("create rolebinding b --clusterrole=view --user=x")?;
    let template = |path: &str| format!("get deployment web -o 'jsonpath={{.spec.template.spec.{path}}}'");
    let (images, env, resources, account) = (
        template("containers[*].image"),
        template("containers[1].env"),
        template("containers[0].resources"),
        template("serviceAccountName"),
    );
    kubectl.say(&[
        ("set image deployment/web one=x", "deployment.apps/web image updated"),
        (&images, "x two"),
        ("set image deployment/web *=y", "deployment.apps/web image updated"),
        (&images, "y y"),
        ("set image deployment/web one=z --dry-run=server", "deployment.apps/web image updated (server dry run)"),
        (&images, "y y"),
        ("set env deployment/web -c two A=b C=d", "deployment.apps/web env updated"),
        ("set env deployment/web -c two --from=configmap/conf --prefix=P_", "deployment.apps/web env updated\nWarning: key colour transferred to COLOUR"),
        ("set env deployment/web -c two C-", "deployment.apps/web env updated"),
        (&env, r#"[{"name":"A","value":"b"},{"name":"P_COLOUR","valueFrom":{"configMapKeyRef":{"key":"colour","name":"conf"}}}]"#),
        ("set env deployment/web --list -c two", "# Deployment web, container two\nA=b\n# P_COLOUR from configmap conf, key colour"),
        ("set env deployment/web --list -c two --resolve", "# Deployment web, container two\nA=b\nP_COLOUR=red"),
        ("set resources deployment/web -c one --limits=cpu=200m,memory=64Mi --requests=cpu=10m", "deployment.apps/web resource requirements updated"),
        (&resources, r#"{"limits":{"cpu":"200m","memory":"64Mi"},"requests":{"cpu":"10m"}}"#),
        ("set serviceaccount deployment/web robot", "deployment.apps/web serviceaccount updated"),
        (&account, "robot"),
        ("set selector service/web app=other,tier=t", "service/web selector updated"),
        ("get service web -o jsonpath={.spec.selector}", r#"{"app":"other","tier":"t"}"#),
        ("set subject rolebinding b --user=y --serviceaccount=NS:robot", "rolebinding.rbac.authorization.k8s.io/b subjects updated"),
        ("get rolebinding b -o 'jsonpath={.subjects[*].kind} {.subjects[*].name}'", "User User ServiceAccount x y robot"),
    ])?;
    kubectl.refuse(&[
        ("set image deployment/web three=x", "error: unable to find container named \"three\""),
        ("set image deployment/none one=x", "Error from server (NotFound): deployments.apps \"none\" not found"),
    ])?;
    kubectl.end()
}

fn rollout(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "rolloutwords")?;
    kubectl.ask("create deployment web --image=knarr.local/demo:v1")?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    kubectl.say(&[
        ("rollout status deployment/web", "deployment \"web\" successfully rolled out"),
        ("annotate deployment web kubernetes.io/change-cause=first", "deployment.apps/web annotated"),
    ])?;
    // The cause comes to the history with the next look of the controller.
    kubectl.ask(
        r"wait rs -l app=web --for=jsonpath={.metadata.annotations.kubernetes\.io/change-cause}=first --timeout=20s",
    )?;
    kubectl.say(&[
        ("rollout history deployment/web", "deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         first"),
        ("rollout pause deployment/web", "deployment.apps/web paused"),
        ("rollout resume deployment/web", "deployment.apps/web resumed"),
        ("rollout restart deployment/web", "deployment.apps/web restarted"),
        ("scale deployment/web --current-replicas=1 --replicas=2", "deployment.apps/web scaled"),
    ])?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    kubectl.ask("rollout pause deployment/web")?;
    kubectl.refuse(&[
        ("rollout pause deployment/web", "error: deployments.apps \"web\" is already paused"),
        ("rollout undo deployment/web", "error: you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again"),
        ("rollout restart deployment/web", "error: deployments.apps \"web\" can't restart paused deployment (run rollout resume first)"),
        ("rollout history deployment/web --revision=9", "error: unable to find the specified revision"),
        ("scale deployment/web --current-replicas=9 --replicas=1", "error: Expected replicas to be 9, was 2"),
        ("scale deployment/none --replicas=1", "Error from server (NotFound): deployments.apps \"none\" not found"),
    ])?;
    kubectl.ask("rollout resume deployment/web")?;
    kubectl.refuse(&[
        ("rollout resume deployment/web", "error: deployments.apps \"web\" is not paused"),
        ("rollout undo deployment/web --to-revision=9", "error: unable to find specified revision 9 in history"),
    ])?;
    kubectl.end()
}
