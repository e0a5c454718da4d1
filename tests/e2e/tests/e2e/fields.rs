//! Every field of a pod's spec, as `docs/pod-fields.md` lists them: those that are honoured are all set and looked at from
//! inside, those that are refused are all refused.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Cluster, command::run, eventually, host::HOST_IP, image::BUSYBOX};
use serde_json::{Value, json};

use crate::Shared;

const PAGE: &str = include_str!("../../../../docs/pod-fields.md");
const WHOLE: &str = include_str!("whole.yaml");
const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("every_honoured_field_comes_true", honoured), ("every_refused_field_says_so", refused)]
}

/// `Type.field` of each line of the page that is refused, or of each that is not.
fn listed(want_refused: bool) -> BTreeSet<String> {
    let mut types: Vec<&str> = Vec::new();
    let mut found = BTreeSet::new();
    for line in PAGE.lines() {
        if let Some(names) = line.strip_prefix("## ") {
            types = names.split(", ").collect();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", fields, fate, _, ""] = cells[..] else { continue };
        if fields.starts_with('`') && fate.starts_with("refused") == want_refused {
            let fields = fields.split(", ").map(|field| field.trim_matches('`'));
            found.extend(fields.flat_map(|field| types.iter().map(move |ty| format!("{ty}.{field}"))));
        }
    }
    found
}

/// Notes `Type.field` for every field that is set in a value of the type that `schema` names.
fn note_set(schemas: &Value, schema: &str, value: &Value, set: &mut BTreeSet<String>) {
    let short = schema.rsplit('.').next().unwrap_or_default();
    for (field, value) in value.as_object().into_iter().flatten() {
        set.insert(format!("{short}.{field}"));
        if let Some(inner) = refers_to(&schemas[schema]["properties"][field]) {
            match value {
                Value::Array(list) => list.iter().for_each(|value| note_set(schemas, inner, value, set)),
                other => note_set(schemas, inner, other, set),
            }
        }
    }
}

fn refers_to(property: &Value) -> Option<&str> {
    let own = property["$ref"].as_str().or_else(|| property["allOf"][0]["$ref"].as_str());
    let own = own.or_else(|| refers_to_some(&property["items"]));
    own.and_then(|path| path.rsplit('/').next())
}

fn refers_to_some(items: &Value) -> Option<&str> {
    items["$ref"].as_str().or_else(|| items["allOf"][0]["$ref"].as_str())
}

fn honoured(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("whole")?;
    let here = cluster.scratch().join("here");
    fs::create_dir_all(&here)?;
    fs::write(here.join("mine"), "")?;
    let seccomp = cluster.data_dir().join("node/seccomp");
    fs::create_dir_all(&seccomp)?;
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    fs::write(seccomp.join("whole.json"), profile.to_string())?;
    let class = format!("class-{ns}");
    cluster.kubectl_args(&[
        "create",
        "priorityclass",
        &format!("priority-{ns}"),
        "--value=1234",
        "--preemption-policy=Never",
    ])?;
    let runtime_class = format!(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {class}}}\nhandler: knarr\noverhead: {{podFixed: {{memory: 8Mi}}}}\n"
    );
    cluster.apply(&ns, &runtime_class)?;
    let yaml = WHOLE.replace("IMAGE", BUSYBOX).replace("HERE", &here.display().to_string());
    let yaml = yaml.replace("PRIORITY", &format!("priority-{ns}")).replace("CLASS", &class).replace("NAMESPACE", &ns);
    cluster.apply(&ns, &yaml)?;
    all_are_set(cluster, &ns)?;

    let pod = format!("pod/whole -n {ns}");
    cluster.expect(&pod, "{.status.conditions[?(@.type==\"PodScheduled\")].reason}", "SchedulingGated")?;
    let gone = r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#;
    cluster.kubectl_args(&["patch", "pod", "whole", "-n", &ns, "--type=json", "-p", gone])?;
    let ready = "{.status.conditions[?(@.type==\"Ready\")]";
    cluster.expect(&pod, &format!("{ready}.reason}}"), "ReadinessGatesNotReady")?;
    let gate = r#"{"status":{"conditions":[{"type":"test/gate","status":"True"}]}}"#;
    cluster.kubectl_args(&["patch", "pod", "whole", "-n", &ns, "--subresource=status", "-p", gate])?;
    cluster.expect(&pod, &format!("{ready}.status}}"), "True")?;
    from_inside(cluster, &ns)?;

    let mut curl = std::process::Command::new("curl");
    let said = run(curl.args(["-sS", "--max-time", "5", &format!("http://{HOST_IP}:18077/args")]))?;
    ensure!(said.stdout == "first hello\n", "the host's port: {}", said.all());
    cluster.expect(&format!("pvc -l made=for-a-pod -n {ns}"), "{.items[*].metadata.name}", "whole-own")?;
    cluster.expect(&pod, "{.spec.priority} {.status.qosClass}", "1234 Burstable")?;
    beside(cluster, &ns)?;
    cluster.kubectl(&format!("delete priorityclass/priority-{ns} runtimeclass/{class}"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// The pods of this namespace, and one ephemeral container, leave no field out that is honoured.
fn all_are_set(cluster: &Cluster, ns: &str) -> Result<()> {
    let document: Value = serde_json::from_str(&cluster.kubectl("get --raw /openapi/v3/api/v1")?)?;
    let mut set = BTreeSet::new();
    for pod in cluster.get(&format!("pods -n {ns}"))?["items"].as_array().into_iter().flatten() {
        note_set(&document["components"]["schemas"], POD_SPEC, &pod["spec"], &mut set);
    }
    let ephemeral =
        |field: &String| field.starts_with("EphemeralContainer.") || field.ends_with(".targetContainerName");
    // `kubectl debug` has tests of its own, and sets them.
    let own = |field: &String| ephemeral(field) || field == "PodSpec.ephemeralContainers";
    // Drivers (`csi`) and devices (`block`) have tests of their own, and not every kernel has an NFS client.
    let elsewhere = |field: &String| {
        let types = ["CSIVolumeSource.", "NFSVolumeSource.", "VolumeDevice."];
        types.iter().any(|ty| field.starts_with(ty))
            || matches!(field.as_str(), "Volume.csi" | "Volume.nfs" | "Container.volumeDevices")
    };
    // Of the first two each type has the other; not every host has AppArmor.
    let impossible =
        ["ConfigMapVolumeSource.secretName", "SecretVolumeSource.name", "AppArmorProfile.localhostProfile"];
    let missing: Vec<String> = listed(false)
        .into_iter()
        .filter(|field| {
            !set.contains(field) && !own(field) && !elsewhere(field) && !impossible.contains(&field.as_str())
        })
        .collect();
    ensure!(missing.is_empty(), "no pod sets {missing:?}");
    Ok(())
}

fn from_inside(cluster: &Cluster, ns: &str) -> Result<()> {
    for (command, expected) in [
        ("cat /out/args", "first hello\n"),
        ("pwd", "/data\n"),
        (
            "echo $COLOUR $USERNAME $OWN_NAME $MEMORY $FRUIT $S_colour $S_SHAPE $L_WORD $BESIDE_SERVICE_HOST",
            "blue anna whole 64 pear blue round open 10.96.77.7\n",
        ),
        ("id -u; id -g; id -G", "1000\n1001\n1001 3000 4000\n"),
        ("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", "NoNewPrivs:\t1\nSeccomp:\t2\n"),
        // NET_ADMIN (bit 12) is there, CHOWN (bit 0) is not.
        ("b=$(grep CapBnd /proc/self/status | tail -c5); echo $((0x$b >> 12 & 1)) $((0x$b & 1))", "1 0\n"),
        ("mkdir /out/x 2>&1", "mkdir: can't create directory '/out/x': Operation not permitted\n"),
        ("touch /x 2>&1", "touch: /x: Read-only file system\n"),
        (
            "touch /settings/x 2>&1; touch /here/x 2>&1",
            "touch: /settings/x: Read-only file system\ntouch: /here/x: Read-only file system\n",
        ),
        ("cat /settings/deep/colour; stat -L -c ' %a %g' /settings/deep/colour", "blue 440 3000\n"),
        ("cat /login/who /all/colour /all/who /all/name /down/note /down/cpu", "annablueannawholewell500"),
        (
            "cmp /all/server.pem /var/run/secrets/kubernetes.io/serviceaccount/ca.crt && stat -L -c '%a %s' /all/none.pem",
            "640 0\n",
        ),
        ("stat -L -c %a /login/who /down/note /down/cpu", "440\n444\n444\n"),
        ("grep -c '^ey.*[.].*[.]' /all/token; ls /here; ls /image/busybox", "1\nmine\n/image/busybox\n"),
        ("touch /data/x /own/x; stat -c %g /data/x", "3000\n"),
        ("df -k /out | tail -1 | grep -c ' 4096 '", "1\n"),
        ("grep alias /etc/hosts", "10.1.2.3\talias.test\n"),
        ("cat /etc/resolv.conf", "nameserver 10.96.0.10\nsearch one.test\noptions ndots:3\n"),
        ("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "77\n"),
        ("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 100[01]' | sort", "sleep 1000\nsleep 1001\n"),
        ("cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null", "67108864\n"),
        ("cat /out/hook; ls /words", "started\nlast\n"),
    ] {
        let args = ["exec", "whole", "-n", ns, "-c", "main", "--", "sh", "-c", command];
        let said = run(&mut cluster.kubectl_command(&args))?;
        ensure!(said.stdout == expected, "{command}: {}", said.all());
    }
    let name = cluster.kubectl(&format!("exec whole -n {ns} -c main -- hostname"))?;
    ensure!(name == format!("called.below.{ns}.svc.cluster.local\n"), "{name}");
    Ok(())
}

/// What one pod cannot have together with the rest.
fn beside(cluster: &Cluster, ns: &str) -> Result<()> {
    for pod in ["host", "named"] {
        cluster.kubectl(&format!("wait pod/{pod} -n {ns} --for=condition=Ready --timeout=60s"))?;
    }
    let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).map(|link| link.display().to_string());
    let command = "for n in ipc net pid; do readlink /proc/self/ns/$n; done";
    let said = cluster.kubectl_args(&["exec", "host", "-n", ns, "--", "sh", "-c", command])?;
    let expected = [own("ipc")?, own("net")?, own("pid")?];
    ensure!(said.lines().eq(expected.iter().map(String::as_str)), "{said}: not {expected:?}");
    let name = cluster.kubectl(&format!("exec named -n {ns} -- hostname"))?;
    ensure!(name == "other.name\n", "{name}");
    Ok(())
}

/// A field, a spec that wishes for it, and what the API server or an event says to that.
struct Refusal {
    fields: Vec<String>,
    spec: Value,
    words: String,
}

fn refusals() -> Vec<Refusal> {
    let container = |own: Value| {
        let mut container = json!({"name": "c", "image": BUSYBOX, "command": ["sleep", "1000"]});
        container.as_object_mut().into_iter().for_each(|map| map.extend(own.as_object().cloned().unwrap_or_default()));
        json!([container])
    };
    let row = |fields: &[&str], wish: Value, own: Value, words: &str| {
        let mut spec = wish;
        spec["containers"] = container(own);
        Refusal { fields: fields.iter().map(|field| (*field).to_owned()).collect(), spec, words: words.to_owned() }
    };
    let windows = json!({"windowsOptions": {"runAsUserName": "u"}});
    let linux = "windows options cannot be set for a linux pod";
    let projected = |source: Value| json!({"volumes": [{"name": "v", "projected": {"sources": [source]}}]});
    let mut rows = vec![
        row(
            &["PodSpec.schedulingGroup"],
            json!({"schedulingGroup": {"podGroupName": "g"}}),
            json!({}),
            "this cluster schedules pods one by one",
        ),
        row(
            &["PodSecurityContext.windowsOptions"],
            json!({"os": {"name": "linux"}, "securityContext": windows}),
            json!({}),
            linux,
        ),
        row(
            &["SecurityContext.windowsOptions"],
            json!({"os": {"name": "linux"}}),
            json!({"securityContext": windows}),
            linux,
        ),
        row(
            &["VolumeProjection.podCertificate"],
            projected(
                json!({"podCertificate": {"signerName": "a/b", "keyType": "ED25519", "credentialBundlePath": "p"}}),
            ),
            json!({}),
            "this kind of projection is not supported by this node",
        ),
    ];
    for (kind, source) in [
        ("awsElasticBlockStore", json!({"volumeID": "v"})),
        ("azureDisk", json!({"diskName": "d", "diskURI": "https://d"})),
        ("azureFile", json!({"secretName": "s", "shareName": "n"})),
        ("cephfs", json!({"monitors": ["m"]})),
        ("cinder", json!({"volumeID": "v"})),
        ("fc", json!({"targetWWNs": ["w"], "lun": 1})),
        ("flexVolume", json!({"driver": "a/b"})),
        ("flocker", json!({"datasetName": "d"})),
        ("gcePersistentDisk", json!({"pdName": "p"})),
        ("gitRepo", json!({"repository": "r"})),
        ("glusterfs", json!({"endpoints": "e", "path": "p"})),
        ("iscsi", json!({"targetPortal": "t", "iqn": "iqn.2001-04.com.example:s", "lun": 0})),
        ("photonPersistentDisk", json!({"pdID": "p"})),
        ("portworxVolume", json!({"volumeID": "v"})),
        ("quobyte", json!({"registry": "r:1", "volume": "v"})),
        ("rbd", json!({"monitors": ["m"], "image": "i"})),
        ("scaleIO", json!({"gateway": "g", "system": "s", "volumeName": "v", "secretRef": {"name": "s"}})),
        ("storageos", json!({"volumeName": "v"})),
        ("vsphereVolume", json!({"volumePath": "v"})),
    ] {
        let field = format!("Volume.{kind}");
        rows.push(row(
            &[&field],
            json!({"volumes": [{"name": "v", kind: source}]}),
            json!({}),
            "volumes are not supported by this node",
        ));
    }
    rows
}

fn refused(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("refused")?;
    let rows = refusals();
    let tried: BTreeSet<String> = rows.iter().flat_map(|row| row.fields.iter().cloned()).collect();
    ensure!(tried == listed(true), "{:?}", tried.symmetric_difference(&listed(true)).collect::<Vec<_>>());
    let mut accepted = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let name = format!("p{number}");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": row.spec});
        let path = cluster.scratch().join("refused.json");
        fs::write(&path, pod.to_string())?;
        let said = run(&mut cluster.kubectl_command(&["apply", "-n", &ns, "-f", path.to_str().context("no text")?]))?;
        if said.code == 0 {
            accepted.push((name, row));
        } else {
            ensure!(said.all().contains(&row.words), "{:?}: {}", row.fields, said.all());
        }
    }
    eventually("an event about each that was accepted", || {
        let events = cluster.get(&format!("events -n {ns}"))?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        let told = |name: &str, words: &str| {
            events.iter().any(|event| {
                event["involvedObject"]["name"] == name
                    && event["message"].as_str().is_some_and(|message| message.contains(words))
            })
        };
        let silent: Vec<_> = accepted.iter().filter(|(name, row)| !told(name, &row.words)).collect();
        let names: Vec<_> = silent.iter().map(|(name, row)| (name, &row.fields)).collect();
        if silent.is_empty() { Ok(()) } else { bail!("nothing is said of {names:?}") }
    })?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
