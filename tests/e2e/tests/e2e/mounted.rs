//! What volumes show of the host and of the API: hostPaths of every type, and content that follows its sources.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixListener,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use knarr_e2e::{
    Clients, Cluster,
    command::{run, succeed},
    eventually,
    image::BUSYBOX,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::{OnNodes, Shared};

/// How soon a running pod sees a change.
const FRESH: Duration = Duration::from_secs(2);

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("host_paths_are_what_their_type_says", host_paths), ("volumes_follow_their_sources", refreshed)]
}

pub fn on_nodes() -> Vec<(&'static str, OnNodes)> {
    vec![("volumes_have_whom_bundles_trust", trusted)]
}

/// Each type beside paths that it takes, and those that it refuses, with upstream's words.
const TYPES: [(&str, &[&str], &[&str], &str); 8] = [
    ("", &["dir", "file", "new"], &[], ""),
    ("Directory", &["dir"], &["file", "none"], "is not a directory"),
    ("DirectoryOrCreate", &["dir", "made"], &["file"], "is not a directory"),
    ("File", &["file"], &["dir", "none"], "is not a file"),
    ("FileOrCreate", &["file", "touched"], &["dir"], "is not a file"),
    ("Socket", &["socket"], &["file", "none"], "is not a socket file"),
    ("CharDevice", &["char"], &["block", "none"], "is not a character device"),
    ("BlockDevice", &["block"], &["char", "none"], "is not a block device"),
];

fn host_paths(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("paths")?;
    let here = cluster.scratch().join("paths");
    fs::create_dir_all(here.join("dir"))?;
    fs::write(here.join("file"), "")?;
    let _listener = UnixListener::bind(here.join("socket"))?;
    for (name, kind) in [("char", "c"), ("block", "b")] {
        succeed(Command::new("mknod").arg(here.join(name)).args([kind, "7", "77"]))?;
    }
    let path = |name: &str| here.join(name).display().to_string();
    let mut pods = Vec::new();
    let mut pod = |name: &str, volumes: Vec<Value>| {
        let mounts: Vec<Value> =
            (0..volumes.len()).map(|at| json!({"name": format!("v{at}"), "mountPath": format!("/v{at}")})).collect();
        pods.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0, "volumes": volumes,
            "containers": [{"name": "c", "image": BUSYBOX, "command": ["sleep", "1000"], "volumeMounts": mounts}]}}));
    };
    let volume = |at: usize, kind: &str, name: &str| json!({"name": format!("v{at}"), "hostPath": {"path": path(name), "type": kind}});
    let taken: Vec<_> = TYPES.iter().flat_map(|(kind, names, ..)| names.iter().map(move |name| (kind, name))).collect();
    pod("taken", taken.iter().enumerate().map(|(at, (kind, name))| volume(at, kind, name)).collect());
    let mut refusals = Vec::new();
    for (kind, _, refused, words) in TYPES {
        for name in refused {
            let called = format!("{}-{name}", kind.to_lowercase());
            pod(&called, vec![volume(0, kind, name)]);
            let shown = path(name);
            let message =
                format!("MountVolume.SetUp failed for volume \"v0\" : hostPath type check failed: {shown} {words}");
            refusals.push((called, message));
        }
    }
    cluster.apply(&ns, &json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string())?;
    cluster.kubectl(&format!("wait pod/taken -n {ns} --for=condition=Ready --timeout=60s"))?;
    let kinds =
        cluster.kubectl_args(&["exec", "taken", "-n", &ns, "--", "sh", "-c", "stat -c %F /v[0-9] /v[0-9][0-9]"])?;
    let expected = "directory|regular empty file|directory|directory|directory|directory|regular empty file|\
                    regular empty file|regular empty file|socket|character special file|block special file|";
    ensure!(kinds.replace('\n', "|") == expected, "{kinds}");
    let made = succeed(Command::new("stat").args(["-c", "%a %F"]).args([path("made"), path("touched")]))?;
    ensure!(made == "755 directory\n644 regular empty file\n", "{made}");
    eventually("an event about each refusal", || {
        let events = cluster.get(&format!("events -n {ns} --field-selector reason=FailedMount"))?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        for (name, message) in &refusals {
            let told = events.iter().any(|e| e["involvedObject"]["name"] == **name && e["message"] == **message);
            ensure!(told, "{name}: {message}");
        }
        Ok(())
    })?;
    // What was missing may come later.
    fs::create_dir(here.join("none"))?;
    cluster.kubectl(&format!("wait pod/directory-none -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn refreshed(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("fresh")?;
    cluster.kubectl(&format!("create configmap settings -n {ns} --from-literal=colour=blue --from-literal=old=x"))?;
    cluster.kubectl(&format!("create secret generic login -n {ns} --from-literal=who=anna"))?;
    let yaml = include_str!("fresh.yaml").replace("IMAGE", BUSYBOX);
    cluster.apply(&ns, &yaml)?;
    cluster.kubectl(&format!("wait pod/fresh -n {ns} --for=condition=Ready --timeout=60s"))?;
    let inside = |command: &str| -> Result<String> {
        Ok(run(&mut cluster.kubectl_command(&["exec", "fresh", "-n", &ns, "--", "sh", "-c", command]))?.all())
    };
    let all = "cd /all; cat colour who labels; cat /settings/colour /down/note /sub; ls /settings; ls later 2>&1; true";
    let before = inside(all)?;
    let expected = "blueannashape=\"round\"bluefirstbluecolour\nold\nls: later: No such file or directory\n";
    ensure!(before == expected, "{before}");
    let first = inside("readlink /all/..data")?;

    let patches = [
        ("configmap/settings", r#"{"data": {"colour": "red", "old": null, "new": "y"}}"#),
        ("secret/login", r#"{"stringData": {"who": "berta"}}"#),
        ("pod/fresh", r#"{"metadata": {"labels": {"shape": "flat"}, "annotations": {"note": "second"}}}"#),
    ];
    for (what, patch) in patches {
        cluster.kubectl_args(&["patch", what, "-n", &ns, "--type=merge", "-p", patch])?;
    }
    cluster.kubectl(&format!("create configmap later -n {ns} --from-literal=later=now"))?;
    let expected = "redbertashape=\"flat\"redsecondbluecolour\nnew\nlater\n";
    let deadline = Instant::now() + FRESH;
    loop {
        let now = inside(all)?;
        if now == expected {
            break;
        }
        ensure!(Instant::now() < deadline, "after {} s: {now}", FRESH.as_secs());
    }
    let second = inside("readlink /all/..data; ls -A /all | grep -c '^[.][.]'")?;
    let (link, left) = second.trim().split_once('\n').context("two lines")?;
    ensure!(link != first.trim() && left == "2", "{first} {second}");
    // What may be missing may also go.
    cluster.kubectl(&format!("delete configmap later -n {ns}"))?;
    eventually("the optional file is gone", || {
        let now = inside("ls /all/later 2>&1")?;
        ensure!(now.contains("No such file"), "{now}");
        Ok(())
    })?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// The certificate of an authority.
fn authority() -> Result<String> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params.self_signed(&KeyPair::generate()?)?.pem())
}

fn trusted(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("trusted")?;
    let (one, two, three) = (authority()?, authority()?, authority()?);
    let signer = format!("{ns}.test/s");
    let bundle = |name: &str, signer: Option<&str>, tier: &str, pem: &str| {
        json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
            "metadata": {"name": name, "labels": {"tier": tier, "of": ns}},
            "spec": {"signerName": signer, "trustBundle": pem}})
        .to_string()
    };
    let of_signer = |name: &str| format!("{ns}.test:s:{name}");
    cluster.apply(&ns, &bundle(&ns, None, "new", &format!("first\n{one}")))?;
    cluster.apply(&ns, &bundle(&of_signer("b"), Some(&signer), "new", &format!("{two}{one}")))?;
    cluster.apply(&ns, &bundle(&of_signer("c"), Some(&signer), "old", &three))?;
    for (refused, why) in [
        (bundle("b", Some(&signer), "new", &one), format!("must be named with prefix {ns}.test:s:")),
        (bundle(&of_signer("x"), None, "new", &one), "must not have \":\" in its name".to_owned()),
        (bundle("b", None, "new", &format!("{one}{one}")), "duplicate trust anchor (indices [0 1])".to_owned()),
        (bundle("b", None, "new", "trust me"), "at least one trust anchor must be provided".to_owned()),
        (bundle(&ns, Some(&signer), "new", &one), "field is immutable".to_owned()),
    ] {
        let said = cluster.apply(&ns, &refused).err().context("it was taken")?.to_string();
        ensure!(said.contains(&why), "{why}: {said}");
    }
    let shown = cluster.kubectl(&format!("get clustertrustbundles --field-selector=spec.signerName={signer}"))?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    ensure!(words == ["NAME", "SIGNERNAME", &of_signer("b"), &signer, &of_signer("c"), &signer], "{shown}");

    let source = |source: Value| json!({"clusterTrustBundle": source});
    let selector = json!({"matchLabels": {"tier": "new"}});
    let pod = |name: &str, sources: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0, "volumes": [{"name": "v", "projected": {"sources": sources}}],
            "containers": [{"name": "c", "image": BUSYBOX, "command": ["sleep", "1000"],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}})
        .to_string()
    };
    let late = of_signer("late");
    cluster.apply(&ns, &pod("waits", json!([source(json!({"name": late, "path": "late"}))])))?;
    let all = json!([
        source(json!({"name": ns, "path": "named"})),
        source(json!({"signerName": signer, "labelSelector": selector, "path": "signed"})),
        source(json!({"name": late, "optional": true, "path": "late"})),
    ]);
    cluster.apply(&ns, &pod("trusts", all))?;
    cluster.kubectl(&format!("wait pod/trusts -n {ns} --for=condition=Ready --timeout=60s"))?;
    // The files are for reading alone, and hold each certificate once.
    let are = |files: [(&str, &[&str]); 3]| -> Result<()> {
        for (file, certificates) in files {
            let held = cluster.kubectl(&format!("exec trusts -n {ns} -- cat /v/{file}"))?;
            let found: Vec<&str> = held.split_inclusive("-----END CERTIFICATE-----\n").collect();
            let is_right = found.len() == certificates.len()
                && found.iter().collect::<BTreeSet<_>>() == certificates.iter().collect();
            ensure!(is_right, "{file}: {held}");
        }
        Ok(())
    };
    are([("named", &[&one]), ("signed", &[&one, &two]), ("late", &[])])?;
    eventually("an event about what is missing", || {
        let event = cluster.kubectl(&format!("get events -n {ns} --field-selector=reason=FailedMount"))?;
        let why =
            format!("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{late}\" not found");
        ensure!(event.contains(&why), "{event}");
        Ok(())
    })?;

    cluster.apply(&ns, &bundle(&ns, None, "new", &two))?;
    cluster.kubectl(&format!("label clustertrustbundle {} tier=new --overwrite", of_signer("c")))?;
    cluster.kubectl(&format!("label clustertrustbundle {} tier=old --overwrite", of_signer("b")))?;
    cluster.apply(&ns, &bundle(&late, Some(&signer), "old", &one))?;
    let deadline = Instant::now() + FRESH;
    while let Err(stale) = are([("named", &[&two]), ("signed", &[&three]), ("late", &[&one])]) {
        ensure!(Instant::now() < deadline, "after {} s: {stale}", FRESH.as_secs());
    }
    cluster.kubectl(&format!("wait pod/waits -n {ns} --for=condition=Ready --timeout=30s"))?;
    cluster.kubectl(&format!("delete clustertrustbundles -l of={ns}"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
