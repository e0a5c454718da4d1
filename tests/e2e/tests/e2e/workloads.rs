//! The other workloads as people drive them: ReplicationControllers, DaemonSets, StatefulSets, Jobs, CronJobs; and who
//! makes room for whom.

use anyhow::{Result, bail, ensure};
use knarr_e2e::{Clients, Cluster, eventually, image::BUSYBOX};

use crate::{OnNodes, Shared};

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("an_important_pod_takes_the_place_of_another", preemption)]
}

pub fn on_nodes() -> Vec<(&'static str, OnNodes)> {
    vec![
        ("a_replication_controller_keeps_its_pods", replication_controller),
        ("a_daemon_set_is_rolled_out_and_undone", daemon_set),
        ("a_stateful_set_keeps_order_and_names", stateful_set),
        ("a_job_of_indexes_ends_by_its_policies", jobs),
        ("a_cron_job_makes_jobs", cron_job),
    ]
}

fn revisions(cluster: &Clients, what: &str) -> Result<Vec<String>> {
    let history = cluster.kubectl(&format!("rollout history {what}"))?;
    let first = history.lines().filter_map(|line| line.split_whitespace().next());
    Ok(first.filter(|word| word.parse::<u32>().is_ok()).map(str::to_owned).collect())
}

fn end(cluster: &Clients, ns: &str) -> Result<()> {
    cluster.kubectl(&format!("delete namespace {ns} --wait=false")).map(drop)
}

fn replication_controller(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("rc")?;
    let left = |count: usize| {
        eventually("so many pods are left", || {
            let pods = cluster.kubectl(&format!("get pods -n {ns} -o name"))?;
            ensure!(pods.lines().count() == count, "not {count}: {pods}");
            Ok(pods.trim().to_owned())
        })
    };
    let yaml = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: old}\nspec:\n  replicas: 2\n  template:\n    \
        metadata: {labels: {app: old}}\n    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: 'knarr.local/demo:v1'}]}\n";
    cluster.apply(&ns, yaml)?;
    cluster.expect(&format!("rc/old -n {ns}"), "{.status.readyReplicas}", "2")?;
    cluster.kubectl(&format!("scale rc/old -n {ns} --replicas=1"))?;
    cluster.expect(&format!("rc/old -n {ns}"), "{.status.replicas}", "1")?;
    // Without its label a pod is nobody's, and another is made; with it, it is taken back and one too many.
    let pod = left(1)?;
    cluster.kubectl(&format!("label {pod} -n {ns} app-"))?;
    cluster.expect(&format!("{pod} -n {ns}"), "{.metadata.ownerReferences}", "")?;
    cluster.expect(&format!("rc/old -n {ns}"), "{.status.readyReplicas}", "1")?;
    left(2)?;
    cluster.kubectl(&format!("label {pod} -n {ns} app=old"))?;
    left(1)?;
    end(cluster, &ns)
}

const DAEMON: &str = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent}\nspec:\n  \
    selector: {matchLabels: {app: agent}}\n  template:\n    metadata: {labels: {app: agent}}\n    \
    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [{name: agent, image: 'knarr.local/demo:v1'}]\n";

fn daemon_set(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("daemons")?;
    cluster.apply(&ns, DAEMON)?;
    let set = format!("daemonset/agent -n {ns}");
    let status = cluster.kubectl(&format!("rollout status {set} --timeout=60s"))?;
    ensure!(status.contains("daemon set \"agent\" successfully rolled out"), "{status}");
    cluster.kubectl(&format!("set image {set} agent=knarr.local/demo:v2"))?;
    cluster.kubectl(&format!("rollout status {set} --timeout=60s"))?;
    let image = "{.items[*].spec.containers[0].image}";
    // One on each node but the server's, whose taint keeps ordinary pods away.
    let on_each = |image: &str| [image; 4].join(" ");
    cluster.expect(&format!("pods -n {ns}"), image, &on_each("knarr.local/demo:v2"))?;
    ensure!(revisions(cluster, &set)? == ["1", "2"]);
    let first = cluster.kubectl(&format!("rollout history {set} --revision=1"))?;
    ensure!(first.contains("knarr.local/demo:v1"), "{first}");
    cluster.kubectl(&format!("rollout undo {set}"))?;
    cluster.kubectl(&format!("rollout status {set} --timeout=60s"))?;
    cluster.expect(&format!("pods -n {ns}"), image, &on_each("knarr.local/demo:v1"))?;
    ensure!(revisions(cluster, &set)? == ["2", "3"]);
    cluster.kubectl(&format!("rollout restart {set}"))?;
    cluster.kubectl(&format!("rollout status {set} --timeout=60s"))?;
    // A node that does not match has none.
    let nowhere = r#"{"spec":{"template":{"spec":{"nodeSelector":{"disk":"none"}}}}}"#;
    cluster.kubectl_args(&["patch", "daemonset/agent", "-n", &ns, "-p", nowhere])?;
    cluster.expect(&set, "{.status.desiredNumberScheduled} {.status.currentNumberScheduled}", "0 0")?;
    eventually("no pod is left", || {
        let pods = cluster.kubectl(&format!("get pods -n {ns} -o name"))?;
        ensure!(pods.is_empty(), "{pods}");
        Ok(())
    })?;
    end(cluster, &ns)
}

const STATEFUL: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: None, selector: {app: db}, \
    ports: [{port: 8080}]}\n---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  replicas: 3\n  \
    serviceName: db\n  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    spec:\n      \
    terminationGracePeriodSeconds: 1\n      containers:\n        - name: db\n          image: knarr.local/demo:v1\n          \
    readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}\n";

fn stateful_set(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("stateful")?;
    cluster.apply(&ns, STATEFUL)?;
    let set = format!("statefulset/db -n {ns}");
    let status = cluster.kubectl(&format!("rollout status {set} --timeout=60s"))?;
    ensure!(status.contains("partitioned roll out complete: 3 new pods have been updated"), "{status}");
    let names = cluster.kubectl(&format!("get pods -n {ns} -o name"))?;
    ensure!(names.split_whitespace().eq(["pod/db-0", "pod/db-1", "pod/db-2"]), "{names}");
    let pods = cluster.get(&format!("pods -n {ns}"))?;
    let ready_at = |index: usize| {
        let conditions = pods["items"][index]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
        ready["lastTransitionTime"].as_str().unwrap_or_default().to_owned()
    };
    let made_at = |index: usize| pods["items"][index]["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    ensure!(ready_at(0).as_str() <= made_at(1) && ready_at(1).as_str() <= made_at(2), "not in order: {pods}");
    // Each is found by its own name.
    let lookup = format!(
        "run look -n {ns} --image={BUSYBOX} --restart=Never --rm -i --quiet -- nslookup db-1.db.{ns}.svc.cluster.local"
    );
    let address = cluster.kubectl(&format!("get pod/db-1 -n {ns} -o jsonpath={{.status.podIP}}"))?;
    eventually("db-1 has an address record", || {
        let said = cluster.kubectl(&lookup)?;
        ensure!(said.contains(&address), "{address} is not in {said}");
        Ok(())
    })?;
    let uid = |name: &str| cluster.kubectl(&format!("get pod/{name} -n {ns} -o jsonpath={{.metadata.uid}}"));
    let before = uid("db-0")?;
    // Down to the partition and no further.
    let partition = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":1}}}}"#;
    cluster.kubectl_args(&["patch", "statefulset/db", "-n", &ns, "-p", partition])?;
    cluster.kubectl(&format!("set image {set} db=knarr.local/demo:v2"))?;
    cluster.kubectl(&format!("rollout status {set} --timeout=60s"))?;
    let images = "{.items[*].spec.containers[0].image}";
    let expected = "knarr.local/demo:v1 knarr.local/demo:v2 knarr.local/demo:v2";
    cluster.expect(&format!("pods -n {ns}"), images, expected)?;
    ensure!(uid("db-0")? == before, "db-0 is below the partition");
    ensure!(revisions(cluster, &set)? == ["1", "2"]);
    cluster.kubectl(&format!("rollout undo {set}"))?;
    cluster.expect(&format!("pods -n {ns}"), images, &["knarr.local/demo:v1"; 3].join(" "))?;
    ensure!(uid("db-0")? == before, "db-0 has been of that revision all along");
    cluster.kubectl(&format!("scale {set} --replicas=1"))?;
    cluster.expect(&set, "{.status.replicas}", "1")?;
    ensure!(uid("db-0")? == before, "the lowest ordinal stays");
    end(cluster, &ns)
}

fn jobs(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("jobs")?;
    let job = |name: &str, command: &str, more: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  completionMode: Indexed\n  \
             completions: 3\n  parallelism: 3\n  {more}\n  template:\n    spec:\n      restartPolicy: Never\n      \
             terminationGracePeriodSeconds: 1\n      \
             containers: [{{name: c, image: '{BUSYBOX}', command: [sh, -c, '{command}']}}]\n"
        )
    };
    // Index 1 fails for good, the others go on.
    let command = "test $JOB_COMPLETION_INDEX != 1";
    cluster.apply(&ns, &job("apart", command, "backoffLimitPerIndex: 0"))?;
    // The first index alone decides.
    let command = "test $JOB_COMPLETION_INDEX = 0 || sleep 1000";
    cluster.apply(&ns, &job("leader", command, "successPolicy: {rules: [{succeededIndexes: \"0\"}]}"))?;
    let failed =
        r#"{.status.conditions[?(@.type=="Failed")].reason} {.status.completedIndexes} {.status.failedIndexes}"#;
    cluster.expect(&format!("job/apart -n {ns}"), failed, "FailedIndexes 0,2 1")?;
    let complete = r#"{.status.conditions[?(@.type=="Complete")].reason} {.status.succeeded}"#;
    cluster.expect(&format!("job/leader -n {ns}"), complete, "SuccessPolicy 1")?;
    let said = cluster.kubectl_fails(&format!("wait job/apart -n {ns} --for=condition=Complete --timeout=1s"))?;
    ensure!(said.contains("timed out"), "{said}");
    end(cluster, &ns)
}

fn cron_job(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("cron")?;
    let create = ["create", "cronjob", "tick", "-n", &ns, "--image", BUSYBOX, "--schedule", "@every 1s", "--", "true"];
    cluster.kubectl_args(&create)?;
    eventually("a Job was made and is complete", || {
        let jobs = cluster.get(&format!("jobs -n {ns}"))?;
        let Some(job) = jobs["items"].get(0) else { bail!("none yet") };
        ensure!(job["metadata"]["ownerReferences"][0]["name"] == "tick", "{job}");
        ensure!(job["status"]["succeeded"] == 1, "{}", job["status"]);
        Ok(())
    })?;
    cluster.kubectl_args(&["patch", "cronjob/tick", "-n", &ns, "-p", r#"{"spec":{"suspend":true}}"#])?;
    cluster.kubectl(&format!("create job by-hand -n {ns} --from=cronjob/tick"))?;
    cluster.kubectl(&format!("wait job/by-hand -n {ns} --for=condition=Complete --timeout=30s"))?;
    let table = cluster.kubectl(&format!("get cronjob/tick -n {ns}"))?;
    ensure!(table.contains("@every 1s") && table.contains("True"), "{table}");
    let zone = ["create", "-n", &ns, "-f", "-"];
    let yaml = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: lost}\nspec:\n  schedule: '0 3 * * *'\n  \
        timeZone: Mars/Olympus\n  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}\n";
    let said = cluster.kubectl_stdin(&zone.join(" "), yaml);
    ensure!(said.is_err_and(|error| error.to_string().contains("unknown time zone Mars/Olympus")));
    end(cluster, &ns)
}

fn preemption(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("important")?;
    let class = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: e2e-important}\nvalue: 1000\n";
    cluster.apply(&ns, class)?;
    let pod = |name: &str, class: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {class}\n  terminationGracePeriodSeconds: 1\n  \
             containers: [{{name: c, image: 'knarr.local/demo:v1', ports: [{{containerPort: 8080, hostPort: 18099}}]}}]\n"
        )
    };
    cluster.apply(&ns, &pod("modest", ""))?;
    cluster.kubectl(&format!("wait pod/modest -n {ns} --for=condition=Ready --timeout=30s"))?;
    cluster.apply(&ns, &pod("waits", ""))?;
    let message = r#"{.status.conditions[?(@.type=="PodScheduled")].message}"#;
    let wanted = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. \
                  preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    cluster.expect(&format!("pod/waits -n {ns}"), message, wanted)?;
    cluster.kubectl(&format!("delete pod/waits -n {ns}"))?;
    cluster.apply(&ns, &pod("important", "priorityClassName: e2e-important"))?;
    cluster.kubectl(&format!("wait pod/important -n {ns} --for=condition=Ready --timeout=30s"))?;
    let said = cluster.kubectl_fails(&format!("get pod/modest -n {ns}"))?;
    ensure!(said.contains("NotFound"), "{said}");
    let events = cluster.kubectl(&format!("events -n {ns} --for pod/modest"))?;
    ensure!(events.contains("Preempted by pod"), "{events}");
    cluster.kubectl("delete priorityclass e2e-important")?;
    end(cluster, &ns)
}
