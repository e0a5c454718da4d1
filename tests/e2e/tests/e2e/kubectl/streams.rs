//! What goes through kubectl to a pod and back: `proxy`, `attach`, `run --rm`, `cp` of directories.

use std::{fs, os::unix::fs::symlink, process::Command};

use anyhow::{Result, bail, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, Running, run, run_with, start, succeed},
    eventually,
    image::BUSYBOX,
};

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_proxy", proxy), ("kubectl_run_and_attach", attach), ("kubectl_cp_of_a_directory", copy)]
}

fn proxy(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "proxy")?;
    kubectl.ask("create deployment web --image=knarr.local/demo:v1 --port=8080")?;
    kubectl.ask("expose deployment web --port=80 --target-port=8080")?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    let pod = kubectl.ask("get pods -l app=web -o jsonpath={.items[0].metadata.name}")?;
    let proxy = start(&mut kubectl.command("proxy --port=18001 --www=. --www-prefix=/files/"), "")?;
    let curl = |path: &str, more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-w", " %{http_code}", "--max-time", "10"]).args(more);
        run(curl.arg(format!("http://127.0.0.1:18001{path}")))
    };
    eventually("the proxy answers", || {
        let said = curl("/healthz", &[])?;
        if said.stdout == "ok 200" { Ok(()) } else { bail!("{}", said.all()) }
    })?;
    let of_ns = format!("/api/v1/namespaces/{}", kubectl.ns);
    let page = format!("version=v1 colour=blue pod={pod} ");
    for path in [format!("{of_ns}/services/web:80/proxy/"), format!("{of_ns}/pods/{pod}:8080/proxy/")] {
        let said = curl(&path, &[])?;
        ensure!(said.stdout.starts_with(&page) && said.stdout.ends_with(" 200"), "{path}: {}", said.all());
    }
    let made = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"posted"}}"#;
    let said = curl(&format!("{of_ns}/configmaps"), &["-H", "Content-Type: application/json", "-d", made])?;
    ensure!(said.stdout.ends_with(" 201"), "{}", said.all());
    kubectl.say(&[("get configmap posted -o name", "configmap/posted")])?;
    // What is not for everybody who can reach the port: commands, and pages of other sites.
    let said = curl(&format!("{of_ns}/pods/{pod}/exec?command=ls"), &[])?;
    ensure!(said.stdout.ends_with(" 403"), "{}", said.all());
    let said = curl("/version", &["-H", "Host: elsewhere.example"])?;
    ensure!(said.stdout.ends_with(" 403"), "{}", said.all());
    let said = proxy.kill()?;
    ensure!(said.stdout == "Starting to serve on 127.0.0.1:18001\n", "{}", said.all());
    kubectl.end()
}

fn attach(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "runattach")?;
    let run =
        format!("run once --image={BUSYBOX} -i --rm --restart=Never -- sh -c 'read line; echo got $line; exit 3'");
    let said = kubectl.run(&run, "something\n")?;
    // The pod's exit code is kubectl's, and what was said is said once.
    let gone = format!("pod \"once\" deleted from {} namespace\n", kubectl.ns);
    ensure!(said.code == 3 && said.stdout == format!("got something\n{gone}"), "{}: {}", said.code, said.all());
    ensure!(said.stderr.ends_with(&format!("pod {}/once terminated (Error)\n", kubectl.ns)), "{}", said.stderr);
    ensure!(!said.stderr.contains("warning"), "{}", said.stderr);

    let speak = "until test -e /go; do echo tick; sleep 0.1; done; echo out; echo err >&2; exit 5";
    kubectl.ask(&format!("run later --image={BUSYBOX} --restart=Never -- sh -c '{speak}'"))?;
    kubectl.ask("wait pod/later --for=condition=Ready --timeout=60s")?;
    let file = |at: usize| cluster.scratch().join(format!("attached-{at}")).display().to_string();
    let attached = ["attach later --quiet", "attach pod/later --quiet -c later"];
    let attached = attached.iter().enumerate().map(|(at, line)| kubectl.start_into(&file(at), line));
    let attached = attached.collect::<Result<Vec<Running>>>()?;
    eventually("both hear it", || {
        for at in 0..attached.len() {
            ensure!(fs::read_to_string(file(at))?.starts_with("tick\n"), "{at} hears nothing");
        }
        Ok(())
    })?;
    kubectl.ask("exec later -- touch /go")?;
    for (at, attached) in attached.into_iter().enumerate() {
        let code = attached.finish(PATIENCE)?.code;
        let text = fs::read_to_string(file(at))?;
        let mut lines: Vec<&str> = text.lines().filter(|line| *line != "tick").collect();
        lines.sort_unstable();
        ensure!(code == 0 && lines == ["err", "out"], "{code}: {text}");
    }
    kubectl.refuse(&[("attach none", "Error from server (NotFound): pods \"none\" not found")])?;
    let said = kubectl.run("attach later", "")?;
    ensure!(said.code == 1, "it has ended: {}", said.all());
    kubectl.end()
}

fn copy(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "cpdir")?;
    let (there, back) = (cluster.scratch().join("cpdir"), cluster.scratch().join("cpback"));
    fs::create_dir_all(there.join("inner"))?;
    fs::write(there.join("one"), "1")?;
    fs::write(there.join("inner/two"), "2".repeat(300_000))?;
    symlink("one", there.join("link"))?;
    kubectl.ask(&format!("run box --image={BUSYBOX} -- sleep 1000"))?;
    kubectl.ask("wait pod/box --for=condition=Ready --timeout=60s")?;
    kubectl.say(&[
        ("cp cpdir box:/tmp/", ""),
        (
            "exec box -- sh -c 'cd /tmp/cpdir && find . | sort && ls -l link | grep -o one'",
            ".\n./inner\n./inner/two\n./link\n./one\none",
        ),
    ])?;
    let said = kubectl.run(&format!("cp {}/box:/tmp/cpdir cpback -c box", kubectl.ns), "")?;
    // Links could lead out of the directory: kubectl leaves them where they are, and says so.
    ensure!(
        said.code == 0 && said.all().contains("warning: skipping symlink: \"cpback/link\" -> \"one\""),
        "{}",
        said.all()
    );
    fs::remove_file(there.join("link"))?;
    succeed(Command::new("diff").arg("-r").args([&there, &back]))?;
    let piped = run_with(
        &mut kubectl.command("exec -i box -- sh -c 'cat > /tmp/piped && wc -c < /tmp/piped'"),
        "12345",
        PATIENCE,
    )?;
    ensure!(piped.stdout == "5\n", "{}", piped.all());
    kubectl.end()
}
