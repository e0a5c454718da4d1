//! `kubectl debug`: a container beside a pod's, a copy of a pod, a pod on a node.

use anyhow::{Context, Result, ensure};
use knarr_e2e::{Cluster, image::BUSYBOX};

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("kubectl_debug_adds_a_container", ephemeral),
        ("kubectl_debug_profiles", profiles),
        ("kubectl_debug_copies_a_pod", copies),
        ("kubectl_debug_of_a_node", node),
    ]
}

const SESSION: &str = "All commands and output from this session will be recorded in container logs, including credentials \
                       and sensitive information passed through the command prompt.\n\
                       If you don't see a command prompt, try pressing enter.\n";

fn boxed<'a>(cluster: &'a Cluster, prefix: &str) -> Result<Kubectl<'a>> {
    let kubectl = Kubectl::new(cluster, prefix)?;
    kubectl.ask(&format!("run box --image={BUSYBOX} --labels=app=box -- sleep 1234"))?;
    kubectl.ask("wait pod/box --for=condition=Ready --timeout=60s")?;
    Ok(kubectl)
}

fn ephemeral(cluster: &Cluster) -> Result<()> {
    let kubectl = boxed(cluster, "debug")?;
    let debug = format!("debug box --image={BUSYBOX}");
    let ended = |name: &str| {
        let ended = format!("{{.status.ephemeralContainerStatuses[?(@.name==\"{name}\")].state.terminated.exitCode}}");
        cluster.expect(&format!("pod/box -n {}", kubectl.ns), &ended, "0")
    };
    // It sees the other container's processes, and what is under its root.
    let look = "ps | grep -c [s]leep.1234; hostname; cat /proc/1/root/etc/hostname";
    kubectl.say(&[(
        &format!("{debug} -c look --target=box -- sh -c '{look}'"),
        "Targeting container \"box\". If you don't see processes from this container it may be because the container \
         runtime doesn't support this feature.",
    )])?;
    ended("look")?;
    kubectl.say(&[("logs box -c look", "1\nbox\nbox")])?;
    // Without a target it has processes of its own.
    kubectl.say(&[(
        &format!("{debug} -c alone --profile=general -- sh -c 'echo pid $$; ps | grep -c [s]leep.1234'"),
        "",
    )])?;
    kubectl
        .ask("wait pod/box --for=jsonpath={.status.ephemeralContainerStatuses[1].state.terminated} --timeout=20s")?;
    let said = kubectl.ask("logs box -c alone")?;
    ensure!(said.ends_with("\n0\n"), "{said}");
    // Whoever is attached sees everything once, whatever the exit code.
    let said =
        kubectl.run(&format!("{debug} -i -c talk -- sh -c 'read line; echo got $line; exit 4'"), "something\n")?;
    ensure!(
        said.code == 0 && said.stdout == "got something\n" && said.stderr == SESSION,
        "{}: {}",
        said.code,
        said.all()
    );
    kubectl.say(&[
        ("get pod box -o jsonpath={.spec.ephemeralContainers[*].name}", "look alone talk"),
        ("get pod box -o 'jsonpath={.status.containerStatuses[0].restartCount} {.status.phase}'", "0 Running"),
    ])?;
    kubectl.refuse(&[
        (
            &format!("{debug} -c look -- sh"),
            "The Pod \"box\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"look\" may not be changed",
        ),
        (&format!("debug none --image={BUSYBOX}"), "Error from server (NotFound): pods \"none\" not found"),
    ])?;
    let said = kubectl.run(&format!("{debug} -c wrong --target=none -- sh"), "")?;
    ensure!(
        said.code == 1 && said.stderr.contains("spec.ephemeralContainers[3].targetContainerName: Not found: \"none\""),
        "{}",
        said.all()
    );
    kubectl.end()
}

/// What a debugger may do, by its profile: capabilities as the kernel shows them (capabilities(7)), and the user.
fn profiles(cluster: &Cluster) -> Result<()> {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_PTRACE: u64 = 1 << 19;
    const SYS_ADMIN: u64 = 1 << 21;
    let kubectl = boxed(cluster, "profiles")?;
    std::fs::write(cluster.scratch().join("custom.yaml"), "securityContext: {runAsUser: 1000}\n")?;
    let look = "sh -c 'id -u; grep CapPrm /proc/self/status'";
    for (name, more, user, has) in [
        ("general", "--profile=general", "0", SYS_PTRACE),
        ("baseline", "--profile=baseline", "0", 0),
        ("netadmin", "--profile=netadmin", "0", NET_ADMIN),
        ("sysadmin", "--profile=sysadmin", "0", NET_ADMIN | SYS_PTRACE | SYS_ADMIN),
        ("custom", "--profile=baseline --custom=custom.yaml", "1000", 0),
    ] {
        kubectl.say(&[(&format!("debug box --image={BUSYBOX} -c {name} {more} -- {look}"), "")])?;
        let ended = format!("{{.status.ephemeralContainerStatuses[?(@.name==\"{name}\")].state.terminated.reason}}");
        cluster.expect(&format!("pod/box -n {}", kubectl.ns), &ended, "Completed")?;
        let log = kubectl.ask(&format!("logs box -c {name}"))?;
        let words: Vec<&str> = log.split_whitespace().collect();
        let capabilities = u64::from_str_radix(words[2], 16)?;
        let found = capabilities & (NET_ADMIN | SYS_PTRACE | SYS_ADMIN);
        ensure!(words[0] == user && found == has, "{name}: {log}");
    }
    // The image runs as root, which this profile forbids.
    kubectl.say(&[(&format!("debug box --image={BUSYBOX} -c restricted --profile=restricted -- {look}"), "")])?;
    let why = "{.status.ephemeralContainerStatuses[?(@.name==\"restricted\")].state.waiting}";
    cluster.expect(
        &format!("pod/box -n {}", kubectl.ns),
        &why.replace("waiting}", "waiting.reason}"),
        "CreateContainerConfigError",
    )?;
    let said = kubectl.ask(&format!("get pod box -o jsonpath={why}"))?;
    ensure!(said.contains("container has runAsNonRoot and image will run as root"), "{said}");
    kubectl.end()
}

fn copies(cluster: &Cluster) -> Result<()> {
    let kubectl = boxed(cluster, "debugcopy")?;
    let debug = format!("debug box --image={BUSYBOX}");
    kubectl.say(&[
        (&format!("{debug} --copy-to=other --container=box -- sleep 99"), ""),
        (&format!("{debug} --copy-to=more --container=extra --keep-labels --share-processes -- sleep 99"), ""),
        ("debug box --copy-to=changed --set-image=*=knarr.local/demo:v1", ""),
        (
            "wait pod/other pod/more --for=condition=Ready --timeout=60s",
            "pod/other condition met\npod/more condition met",
        ),
        ("get pod other -o 'jsonpath={.spec.containers[*].command} {.metadata.labels}'", r#"["sleep","99"] "#),
        (
            "get pod more -o 'jsonpath={.spec.containers[*].name} {.metadata.labels} {.spec.shareProcessNamespace}'",
            r#"box extra {"app":"box"} true"#,
        ),
        ("get pod changed -o jsonpath={.spec.containers[*].image}", "knarr.local/demo:v1"),
        // Sharing processes, one container sees the other's.
        ("exec more -c extra -- sh -c 'ps | grep -c [s]leep.1234'", "1"),
        (&format!("{debug} --copy-to=instead --replace --same-node --container=box -- sleep 99"), ""),
        ("get pod instead -o jsonpath={.spec.nodeName}", "node-1"),
    ])?;
    kubectl.ask("wait pod/box --for=delete --timeout=60s")?;
    kubectl.end()
}

fn node(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "debugnode")?;
    std::fs::write(cluster.scratch().join("of-the-host"), "the host's\n")?;
    let look =
        format!("read line; echo $line; cat /host{}/of-the-host; test -d /host/proc/1", cluster.scratch().display());
    let line = format!("debug node/node-1 --image={BUSYBOX} -i -- sh -c '{look}'");
    let said = kubectl.run(&line, "something\n")?;
    ensure!(said.code == 0 && said.stdout.ends_with("something\nthe host's\n"), "{}: {}", said.code, said.all());
    let pod = kubectl.ask("get pods -o name")?;
    let pod = pod.trim_end();
    let name = pod.strip_prefix("pod/").context("no pod")?;
    ensure!(name.starts_with("node-debugger-node-1-"), "{name}");
    let created = format!("Creating debugging pod {name} with container debugger on node node-1.\n");
    ensure!(said.all().contains(&created), "{}", said.all());
    let spec = format!(
        "get {pod} -o 'jsonpath={{.spec.nodeName}} {{.spec.hostNetwork}} {{.spec.hostPID}} {{.spec.hostIPC}} {{.spec.volumes[0].hostPath.path}} {{.spec.tolerations[0].operator}}'"
    );
    kubectl.say(&[(&spec, "node-1 true true true / Exists")])?;
    let left = cluster.scratch().join("left");
    let line = format!(
        "debug node/node-1 --image={BUSYBOX} --profile=sysadmin -i -- sh -c 'chroot /host touch {}'",
        left.display()
    );
    let said = kubectl.run(&line, "")?;
    ensure!(left.exists(), "{}", said.all());
    kubectl.refuse(&[(
        &format!("debug node/none --image={BUSYBOX}"),
        "Error from server (NotFound): nodes \"none\" not found",
    )])?;
    kubectl.end()
}
