//! Images from a registry: Debian's `docker-registry`, on this host's loopback.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use knarr_e2e::{
    Cluster,
    command::{Running, run, start, succeed},
    eventually, image,
};
use serde_json::{Value, json};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("images_come_from_registries", come)]
}

/// Asks for a name and password.
const LOCKED: &str = "127.0.0.1:5000";
/// Speaks TLS with a certificate that nobody knows.
const PRIVATE: &str = "127.0.0.1:5443";
const APP: &str = "127.0.0.1:5000/team/app:1";
/// `me` and `s3cret`, as htpasswd writes them.
const USERS: &str = "me:$2b$04$oPG4UTvuHM9D3mR5bOjJLu1BbtHti2EvIv4qAgzltuM9m7wHvGTeC\n";

/// Puts an image's files where the registry keeps them, and gives its digest.
fn stock(storage: &Path, repository: &str) -> Result<String> {
    let work = tempfile::tempdir()?;
    let archive = work.path().join("app.tar");
    // Another image than the one that all tests import.
    let config = json!({"Env": ["PATH=/bin", "FROM=registry"], "Cmd": ["sleep", "1000"]});
    image::write_busybox_as(&archive, &[("app:1", config)])?;
    tar::Archive::new(fs::File::open(&archive)?).unpack(work.path())?;
    let root = storage.join("docker/registry/v2");
    let own = root.join("repositories").join(repository);
    let link = |path: PathBuf, digest: &str| -> Result<()> {
        fs::create_dir_all(&path)?;
        Ok(fs::write(path.join("link"), format!("sha256:{digest}"))?)
    };
    let blob = |bytes: &[u8]| -> Result<Value> {
        let digest = image::digest(bytes);
        let place = root.join("blobs/sha256").join(&digest[..2]).join(&digest);
        fs::create_dir_all(&place)?;
        fs::write(place.join("data"), bytes)?;
        link(own.join("_layers/sha256").join(&digest), &digest)?;
        Ok(json!({"digest": format!("sha256:{digest}"), "size": bytes.len()}))
    };
    let manifest: Value = serde_json::from_slice(&fs::read(work.path().join("manifest.json"))?)?;
    let file = |name: &Value| fs::read(work.path().join(name.as_str().unwrap_or_default()));
    let mut config = blob(&file(&manifest[0]["Config"])?)?;
    config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    let mut layer = blob(&file(&manifest[0]["Layers"][0])?)?;
    layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]}).to_string();
    let digest = image::digest(manifest.as_bytes());
    blob(manifest.as_bytes())?;
    link(own.join("_manifests/revisions/sha256").join(&digest), &digest)?;
    link(own.join("_manifests/tags/1/current"), &digest)?;
    Ok(digest)
}

/// Starts a registry over the storage, and waits until it answers.
fn serve(dir: &Path, address: &str, more: &str) -> Result<Running> {
    let program = env::var_os("KNARR_TEST_REGISTRY").context("KNARR_TEST_REGISTRY is not set: run `./x test e2e`")?;
    let config = dir.join(format!("{address}.yaml"));
    let storage = dir.join("storage").display().to_string();
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{storage}'}}}}\nhttp:\n  addr: {address}\n{more}"
    );
    fs::write(&config, text)?;
    let running = start(Command::new(program).arg("serve").arg(&config), "")?;
    eventually("the registry answers", || {
        let asked = ["http", "https"].map(|scheme| format!("{scheme}://{address}/v2/"));
        let answers = |url: &String| {
            run(Command::new("curl").args(["-sk", "-o", "/dev/null", url])).is_ok_and(|said| said.code == 0)
        };
        ensure!(asked.iter().any(answers), "{address} does not answer");
        Ok(())
    })?;
    Ok(running)
}

/// A certificate authority's certificate, and a certificate and key that it vouches for.
fn certificates(dir: &Path) -> Result<()> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::from_params(&params, &key);
    let server = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&server, &issuer)?;
    fs::write(dir.join("server.pem"), certificate.pem())?;
    fs::write(dir.join("server.key"), server.serialize_pem())?;
    Ok(())
}

fn pod(cluster: &Cluster, name: &str, image: &str, more: &str) -> Result<()> {
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  {more}\n  \
         containers: [{{name: c, image: '{image}', imagePullPolicy: IfNotPresent}}]\n"
    );
    cluster.apply("default", &yaml).map(drop)
}

fn runs(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.kubectl(&format!("wait pod/{name} --for=condition=Ready --timeout=60s")).map(drop)
}

/// A pod without its image says why, in its events and in its status.
fn lacks(cluster: &Cluster, name: &str, why: &str) -> Result<()> {
    eventually("the image is waited for", || {
        let waiting = &cluster.get(&format!("pod/{name}"))?["status"]["containerStatuses"][0]["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        ensure!(waiting["reason"] == "ImagePullBackOff" && message.contains(why), "{name}: {waiting}");
        ensure!(message.starts_with("Back-off pulling image"), "{name}: {message}");
        let events = cluster.kubectl(&format!("get events --field-selector involvedObject.name={name}"))?;
        for told in ["Failed to pull image", why, "Error: ErrImagePull", "Error: ImagePullBackOff"] {
            ensure!(events.contains(told), "{name}: {told}: {events}");
        }
        Ok(())
    })
}

fn come() -> Result<()> {
    let mut cluster = Cluster::new()?;
    let dir = cluster.scratch().to_owned();
    let digest = stock(&dir.join("storage"), "team/app")?;
    certificates(&dir)?;
    fs::write(dir.join("users"), USERS)?;
    let auth = format!("auth: {{htpasswd: {{realm: r, path: '{}'}}}}\n", dir.join("users").display());
    let tls = format!(
        "  tls: {{certificate: '{}', key: '{}'}}\n",
        dir.join("server.pem").display(),
        dir.join("server.key").display()
    );
    let _registries = [serve(&dir, LOCKED, &auth)?, serve(&dir, PRIVATE, &tls)?];
    let hosts = dir.join("certs.d");
    let say = |registry: &str, text: &str| -> Result<()> {
        fs::create_dir_all(hosts.join(registry))?;
        Ok(fs::write(hosts.join(registry).join("hosts.toml"), text)?)
    };
    say("private.example", &format!("server = \"https://{PRIVATE}\"\n"))?;
    let ca = dir.join("ca.pem").display().to_string();
    let mirror = format!("server = \"http://127.0.0.1:1\"\n[host.\"https://{PRIVATE}\"]\nca = \"{ca}\"\n");
    say("mirrored.example", &mirror)?;
    cluster.start_with(&["--registry-config-dir", &hosts.display().to_string()])?;
    with_credentials(&cluster, &digest)?;
    by_other_ways(&cluster, &ca, &say)?;
    by_hand(&cluster)?;
    cluster.reset().map(drop)
}

fn with_credentials(cluster: &Cluster, digest: &str) -> Result<()> {
    for (name, password) in [("good", "s3cret"), ("bad", "wrong")] {
        let secret = format!("create secret docker-registry {name} --docker-server={LOCKED} --docker-username=me");
        cluster.kubectl(&format!("{secret} --docker-password={password}"))?;
    }
    let nobody = "pull access denied, repository does not exist or may require authorization: authorization failed: no \
                  basic auth credentials";
    let url =
        format!("unexpected status from GET request to http://{LOCKED}/v2/team/app/manifests/1: 401 Unauthorized");
    pod(cluster, "nobody", APP, "")?;
    pod(cluster, "wrong", APP, "imagePullSecrets: [{name: bad}]")?;
    lacks(cluster, "nobody", nobody)?;
    lacks(cluster, "wrong", &url)?;
    pod(cluster, "missing", &format!("{LOCKED}/team/none:1"), "imagePullSecrets: [{name: good}]")?;
    lacks(cluster, "missing", &format!("{LOCKED}/team/none:1: not found"))?;
    // The first credentials may be the wrong ones.
    pod(cluster, "right", APP, "imagePullSecrets: [{name: bad}, {name: good}]")?;
    runs(cluster, "right")?;
    pod(cluster, "exact", &format!("{LOCKED}/team/app@sha256:{digest}"), "imagePullSecrets: [{name: good}]")?;
    runs(cluster, "exact")?;
    cluster.apply(
        "default",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: puller}\nimagePullSecrets: [{name: good}]\n",
    )?;
    pod(cluster, "account", APP, "serviceAccountName: puller")?;
    runs(cluster, "account")?;
    let there = format!("Container image \"{APP}\" already present on machine and can be accessed by the pod");
    let events = cluster.kubectl("get events --field-selector involvedObject.name=account,reason=Pulled")?;
    ensure!(events.contains(&there), "{events}");
    // It is there by now, and not for those without credentials.
    pod(cluster, "stranger", APP, "")?;
    lacks(cluster, "stranger", nobody)
}

fn by_other_ways(cluster: &Cluster, ca: &str, say: &dyn Fn(&str, &str) -> Result<()>) -> Result<()> {
    pod(cluster, "untrusted", "private.example/team/app:1", "")?;
    lacks(cluster, "untrusted", "invalid peer certificate: UnknownIssuer")?;
    // Read anew for each pull.
    say("private.example", &format!("server = \"https://{PRIVATE}\"\nca = \"{ca}\"\n"))?;
    runs(cluster, "untrusted")?;
    pod(cluster, "mirrored", "mirrored.example/team/app:1", "")?;
    runs(cluster, "mirrored")?;
    say("private.example", "sever = \"https://there\"\n")?;
    pod(cluster, "misspelt", "private.example/team/app:2", "")?;
    lacks(cluster, "misspelt", "private.example/hosts.toml: unknown field `sever`")
}

fn by_hand(cluster: &Cluster) -> Result<()> {
    let said = run(cluster.knarr("image pull").arg(APP))?;
    ensure!(said.code != 0 && said.stderr.contains("no basic auth credentials"), "{}", said.all());
    let config = cluster.scratch().join("config.json");
    let entry = json!({"auths": {LOCKED: {"username": "me", "password": "s3cret"}}});
    fs::write(&config, entry.to_string())?;
    succeed(cluster.knarr("image pull").arg("--docker-config").arg(&config).arg(APP))?;
    let archive = cluster.scratch().join("app.tar");
    succeed(cluster.knarr("image export").arg("--output").arg(&archive).arg(APP))?;
    let names = succeed(Command::new("tar").arg("-tf").arg(&archive))?;
    ensure!(names.contains("oci-layout") && names.contains("manifest.json"), "{names}");
    // What a pod runs on stays.
    succeed(&mut cluster.knarr("image prune"))?;
    ensure!(succeed(&mut cluster.knarr("image ls"))?.contains(APP), "an image in use was pruned");
    cluster.kubectl("delete pod --all --wait=true")?;
    eventually("nothing uses the image", || {
        succeed(&mut cluster.knarr("image prune"))?;
        let left = succeed(&mut cluster.knarr("image ls"))?;
        ensure!(!left.contains(APP), "{left}");
        Ok(())
    })?;
    let imported = succeed(cluster.knarr("image import").arg(&archive))?;
    ensure!(imported.contains(&format!("imported {APP}")), "{imported}");
    // What an administrator brought is everybody's.
    pod(cluster, "given", APP, "")?;
    runs(cluster, "given")
}
