//! `kubectl create` of every kind that it knows, and `kubectl expose`, `autoscale`, `run`: what is there afterwards.

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, command::succeed, image::BUSYBOX};

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("kubectl_creates_workloads", workloads),
        ("kubectl_creates_configuration", configuration),
        ("kubectl_creates_services_and_rules", services),
        ("kubectl_creates_roles", roles),
    ]
}

fn workloads(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "creatework")?;
    let image = |line: &str| line.replace("IMAGE", BUSYBOX);
    let rows = [
        ("create deployment web --image=IMAGE --replicas=0 --port=80 -- sleep 9", "deployment.apps/web created"),
        ("create cronjob cj --image=IMAGE '--schedule=0 0 1 1 *' -- echo hello", "cronjob.batch/cj created"),
        ("create job once --image=IMAGE -- echo once", "job.batch/once created"),
        ("create job from --from=cronjob/cj", "job.batch/from created"),
        ("autoscale deployment web --min=2 --max=5 --cpu=70%", "horizontalpodautoscaler.autoscaling/web autoscaled"),
        (
            "create poddisruptionbudget one --selector=app=web --min-available=1",
            "poddisruptionbudget.policy/one created",
        ),
        ("create pdb half --selector=app=web --max-unavailable=50%", "poddisruptionbudget.policy/half created"),
        (
            "create priorityclass creatework --value=7 --preemption-policy=Never",
            "priorityclass.scheduling.k8s.io/creatework created",
        ),
        (
            "wait job/once job/from --for=condition=Complete --timeout=60s",
            "job.batch/once condition met\njob.batch/from condition met",
        ),
        ("logs job/from", "hello"),
        (
            "get deployment web -o 'jsonpath={.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort} {.metadata.labels}'",
            r#"0 80 {"app":"web"}"#,
        ),
        (
            r"get job from -o 'jsonpath={.metadata.annotations.cronjob\.kubernetes\.io/instantiate} {.metadata.ownerReferences[0].kind}'",
            "manual CronJob",
        ),
        (
            "get hpa web -o 'jsonpath={.spec.minReplicas} {.spec.maxReplicas} {.spec.metrics[0].resource.target.averageUtilization}'",
            "2 5 70",
        ),
        ("get pdb one half -o jsonpath={.items[*].spec.minAvailable},{.items[*].spec.maxUnavailable}", "1,50%"),
        ("get priorityclass creatework -o 'jsonpath={.value} {.globalDefault} {.preemptionPolicy}'", "7  Never"),
    ];
    let rows = rows.map(|(line, wanted)| (image(line), wanted));
    kubectl.say(&rows.each_ref().map(|(line, wanted)| (line.as_str(), *wanted)))?;
    cluster.kubectl("delete priorityclass creatework")?;
    kubectl.refuse(&[
        ("create deployment web --image=x", "error: failed to create deployment: deployments.apps \"web\" already exists"),
        (
            "create cronjob bad --image=x --schedule=never",
            "error: failed to create cronjob: CronJob.batch \"bad\" is invalid: spec.schedule: Invalid value: \"never\": \
             expected exactly 5 fields, found 1: [never]",
        ),
    ])?;
    kubectl.end()
}

fn configuration(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "createconf")?;
    let dir = cluster.scratch().join("createconf");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("a.txt"), "text\n")?;
    std::fs::write(dir.join("b.bin"), [0xff, 0xfe])?;
    std::fs::write(cluster.scratch().join("createconf.env"), "# nothing\nA=1\nB=two words\n")?;
    let mut pair = std::process::Command::new("openssl");
    pair.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=x -keyout k.pem -out c.pem".split(' '));
    succeed(pair.current_dir(cluster.scratch()))?;
    kubectl.say(&[
        ("create configmap dir --from-file=createconf --from-literal=c=d", "configmap/dir created"),
        ("get configmap dir -o 'jsonpath={.data} {.binaryData}'", r#"{"a.txt":"text\n","c":"d"} {"b.bin":"//4="}"#),
        ("create configmap env --from-env-file=createconf.env", "configmap/env created"),
        ("get configmap env -o jsonpath={.data}", r#"{"A":"1","B":"two words"}"#),
        ("create configmap named --from-literal=a=b --append-hash", "configmap/named-2t67472tk7 created"),
        ("create secret generic plain --from-literal=a=b --type=example.com/own", "secret/plain created"),
        ("get secret plain -o 'jsonpath={.type} {.data}'", r#"example.com/own {"a":"Yg=="}"#),
        ("create secret tls pair --cert=c.pem --key=k.pem", "secret/pair created"),
        ("get secret pair -o jsonpath={.type}", "kubernetes.io/tls"),
        (
            "create secret docker-registry pull --docker-server=r.example --docker-username=u --docker-password=p",
            "secret/pull created",
        ),
        (
            r#"get secret pull -o 'go-template={{.type}} {{index .data ".dockerconfigjson" | base64decode}}'"#,
            r#"kubernetes.io/dockerconfigjson {"auths":{"r.example":{"username":"u","password":"p","auth":"dTpw"}}}"#,
        ),
        ("create serviceaccount own", "serviceaccount/own created"),
        ("create quota few --hard=pods=2,requests.cpu=1 --scopes=NotTerminating", "resourcequota/few created"),
        (
            "get quota few -o 'jsonpath={.spec.hard} {.spec.scopes}'",
            r#"{"pods":"2","requests.cpu":"1"} ["NotTerminating"]"#,
        ),
        ("create namespace NS-inner", "namespace/NS-inner created"),
    ])?;
    cluster.kubectl(&format!("delete namespace {}-inner --wait=false", kubectl.ns))?;
    kubectl.refuse(&[
        ("create configmap env", "error: failed to create configmap: configmaps \"env\" already exists"),
        ("create secret generic plain", "error: failed to create secret secrets \"plain\" already exists"),
        ("create namespace NS", "Error from server (AlreadyExists): namespaces \"NS\" already exists"),
    ])?;
    let said = kubectl.run("create configmap Upper", "")?;
    let wanted = "error: failed to create configmap: ConfigMap \"Upper\" is invalid: metadata.name: Invalid value: \"Upper\": a \
                  lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
                  and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                  '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\n";
    ensure!(said.code == 1 && said.stderr == wanted, "{}", said.all());
    kubectl.end()
}

fn services(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "createsvc")?;
    kubectl.ask("create deployment web --image=knarr.local/demo:v1 --replicas=0")?;
    kubectl.say(&[
        ("create service clusterip inner --tcp=80:8080 --tcp=443", "service/inner created"),
        ("create service clusterip headless --clusterip=None", "service/headless created"),
        ("create service nodeport node --tcp=80 --node-port=31987", "service/node created"),
        ("create service loadbalancer outer --tcp=8765:80", "service/outer created"),
        ("create service externalname far --external-name=far.example", "service/far created"),
        ("expose deployment web --port=80 --target-port=8080 --name=shown --session-affinity=ClientIP", "service/shown exposed"),
        ("expose service shown --port=90 --type=NodePort --name=again", "service/again exposed"),
        (
            "get service inner headless node outer far shown again -o jsonpath={.items[*].spec.type}",
            "ClusterIP ClusterIP NodePort LoadBalancer ExternalName ClusterIP NodePort",
        ),
        (
            "get service inner -o 'jsonpath={.spec.ports} {.spec.selector}'",
            r#"[{"name":"80-8080","port":80,"protocol":"TCP","targetPort":8080},{"name":"443","port":443,"protocol":"TCP","targetPort":443}] {"app":"inner"}"#,
        ),
        ("get service headless node far -o jsonpath={.items[0].spec.clusterIP},{.items[1].spec.ports[0].nodePort},{.items[2].spec.externalName}", "None,31987,far.example"),
        ("get service shown -o 'jsonpath={.spec.ports} {.spec.selector} {.spec.sessionAffinity}'", r#"[{"port":80,"protocol":"TCP","targetPort":8080}] {"app":"web"} ClientIP"#),
        (
            "create ingress rules --class=knarr --rule=a.example/p*=inner:80,tls=pair --rule=b.example/=outer:https",
            "ingress.networking.k8s.io/rules created",
        ),
        (
            "get ingress rules -o jsonpath={.spec.rules[*].http.paths}",
            r#"[{"backend":{"service":{"name":"inner","port":{"number":80}}},"path":"/p","pathType":"Prefix"}] [{"backend":{"service":{"name":"outer","port":{"name":"https"}}},"path":"/","pathType":"Exact"}]"#,
        ),
        ("get ingress rules -o 'jsonpath={.spec.ingressClassName} {.spec.tls}'", r#"knarr [{"hosts":["a.example"],"secretName":"pair"}]"#),
    ])?;
    kubectl.refuse(&[
        (
            "create service nodeport other --tcp=80 --node-port=31987",
            "error: failed to create NodePort service: Service \"other\" is invalid: spec.ports[0].nodePort: Invalid \
             value: 31987: provided port is already allocated",
        ),
        ("expose deployment none --port=80", "Error from server (NotFound): deployments.apps \"none\" not found"),
    ])?;
    kubectl.end()
}

fn roles(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "createrole")?;
    kubectl.say(&[
        ("create role r --verb=get,list --resource=pods,deployments.apps/scale", "role.rbac.authorization.k8s.io/r created"),
        ("get role r -o jsonpath={.rules}", r#"[{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]},{"apiGroups":["apps"],"resources":["deployments/scale"],"verbs":["get","list"]}]"#),
        ("create rolebinding rb --clusterrole=view --user=u --group=g --serviceaccount=NS:default", "rolebinding.rbac.authorization.k8s.io/rb created"),
        ("get rolebinding rb -o 'jsonpath={.roleRef.kind}/{.roleRef.name} {.subjects[*].kind} {.subjects[*].name}'", "ClusterRole/view User Group ServiceAccount u g default"),
        ("create clusterrole createrole --verb=get --non-resource-url=/x/*", "clusterrole.rbac.authorization.k8s.io/createrole created"),
        ("create clusterrole createrole-sum --aggregation-rule=createrole=yes", "clusterrole.rbac.authorization.k8s.io/createrole-sum created"),
        ("label clusterrole createrole createrole=yes", "clusterrole.rbac.authorization.k8s.io/createrole labeled"),
        ("wait clusterrole/createrole-sum --for=jsonpath={.rules[0].nonResourceURLs[0]}=/x/* --timeout=20s", "clusterrole.rbac.authorization.k8s.io/createrole-sum condition met"),
        ("create clusterrolebinding createrole --clusterrole=createrole-sum --group=crew", "clusterrolebinding.rbac.authorization.k8s.io/createrole created"),
        ("auth can-i get /x/y --as bob --as-group crew", "yes"),
    ])?;
    cluster.kubectl("delete clusterrolebinding createrole")?;
    cluster.kubectl("delete clusterrole createrole createrole-sum")?;
    kubectl.end()
}
