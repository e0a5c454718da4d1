//! Knarr's own client prints what kubectl prints: both are run with the same words on the same cluster, and what they
//! write and their exit codes are compared.

mod rows;

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use knarr_e2e::{
    Cluster,
    command::{Said, run_with},
    image::BUSYBOX,
};

use crate::Shared;

/// One invocation may take this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// What differs because the cluster moved between two runs is asked again for this long.
const SETTLE: Duration = Duration::from_secs(4);
/// How many rows are compared at the same time.
const AT_ONCE: usize = 4;
const AT_LEAST: usize = 240;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("knarr_and_kubectl_print_the_same", same), ("knarr_execs_copies_and_edits", streams)]
}

fn same(cluster: &Cluster) -> Result<()> {
    prepare(cluster)?;
    // What changes nothing is asked by several at once; the rest goes one after another.
    let (changing, reading): (Vec<&str>, Vec<&str>) = rows::ROWS.iter().partition(|row| changes(row));
    let check = |rows: &[&str]| -> Vec<String> {
        let different = |row: &str| rows::OTHER_WORDS.contains(&row);
        let wrong = |row: &&str| Some(format!("{row}\n{}", compare(cluster, row, !different(row)).err()?));
        rows.iter().filter_map(wrong).collect()
    };
    let mut wrong = thread::scope(|scope| {
        let share = reading.len().div_ceil(AT_ONCE);
        let asked: Vec<_> = reading.chunks(share).map(|rows| scope.spawn(|| check(rows))).collect();
        asked
            .into_iter()
            .flat_map(|asked| asked.join().unwrap_or_else(|_| vec!["a comparison panicked".into()]))
            .collect::<Vec<_>>()
    });
    wrong.extend(check(&changing));
    cluster.kubectl("delete namespace cli --timeout=60s")?;
    cluster.kubectl("delete pv/pv-cli sc/sc-cli pc/pc-cli --ignore-not-found --timeout=60s")?;
    ensure!(rows::ROWS.len() >= AT_LEAST, "only {} invocations are compared", rows::ROWS.len());
    ensure!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), rows::ROWS.len(), wrong.join("\n\n"));
    Ok(())
}

/// The first word says it, except where nothing is meant to last.
fn changes(row: &str) -> bool {
    const WORDS: [&str; 14] = [
        "annotate",
        "apply",
        "autoscale",
        "cordon",
        "delete",
        "expose",
        "label",
        "patch",
        "replace",
        "rollout",
        "scale",
        "set",
        "taint",
        "uncordon",
    ];
    let first = row.split(' ').next().unwrap_or_default();
    !row.contains("--dry-run") && WORDS.contains(&first)
}

/// What passes between a terminal and a pod, and a file and an editor.
fn streams(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("streams")?;
    let knarr = |words: &[&str], stdin: &str| -> Result<Said> {
        let mut command = cluster.own_client_command(words)?;
        command.args(["-n", &ns]).env("EDITOR", "sed -i s/red$/blue/");
        run_with(&mut command, stdin, PATIENCE)
    };
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: box, labels: {{colour: red}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: box, image: {BUSYBOX}, command: [sleep, '600']}}]}}}}"
    );
    let made = knarr(&["apply", "-f", "-"], &pod)?;
    ensure!(made.stdout == "pod/box created\n", "{made:?}");
    let ready = knarr(&["wait", "--for=condition=Ready", "pod/box", "--timeout=60s"], "")?;
    ensure!(ready.stdout == "pod/box condition met\n", "{ready:?}");
    let exec = |words: &[&str], stdin: &str| {
        let flags: &[&str] = if stdin.is_empty() { &["exec", "box"] } else { &["exec", "-i", "box"] };
        let mut command = cluster.own_client_command(flags)?;
        command.args(["-n", &ns, "--"]).args(words);
        run_with(&mut command, stdin, PATIENCE)
    };
    let said = exec(&["sh", "-c", "echo out; echo err >&2; exit 3"], "")?;
    ensure!(said.code == 3 && said.stdout == "out\n", "{said:?}");
    ensure!(said.stderr == "err\ncommand terminated with exit code 3\n", "{said:?}");
    let said = exec(&["cat"], "through the pod")?;
    ensure!(said.code == 0 && said.stdout == "through the pod", "{said:?}");

    let here = cluster.scratch().join("copied");
    std::fs::write(&here, "a".repeat(100_000))?;
    let (here, back) = (here.display().to_string(), cluster.scratch().join("back").display().to_string());
    let said = knarr(&["cp", &here, "box:/tmp/copied"], "")?;
    ensure!(said.code == 0, "{said:?}");
    let said = knarr(&["cp", "box:/tmp/copied", &back], "")?;
    ensure!(said.code == 0 && std::fs::read(&here)? == std::fs::read(&back)?, "{said:?}");

    let said = knarr(&["edit", "pod/box"], "")?;
    ensure!(said.stdout == "pod/box edited\n", "{said:?}");
    let said = knarr(&["get", "pod", "box", "-o=jsonpath={.metadata.labels.colour}"], "")?;
    ensure!(said.stdout == "blue", "{said:?}");
    let said = knarr(&["delete", "pod", "box"], "")?;
    ensure!(said.stdout == format!("pod \"box\" deleted from {ns} namespace\n"), "{said:?}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn prepare(cluster: &Cluster) -> Result<()> {
    cluster.kubectl("create namespace cli")?;
    cluster.kubectl("create configmap cm --from-literal=a=b --from-literal=long=x -n cli")?;
    cluster.kubectl("create secret generic sec --from-literal=a=b -n cli")?;
    cluster.kubectl("create deployment web --image=knarr.local/demo:v1 --replicas=2 --port=8080 -n cli")?;
    cluster.kubectl("expose deployment web --port=80 --target-port=8080 -n cli")?;
    cluster.kubectl("rollout status deployment/web -n cli --timeout=60s")?;
    cluster.kubectl_stdin("apply -f -", include_str!("cli/objects.yaml"))?;
    std::fs::write(cluster.scratch().join("cli_objects.yaml"), include_str!("cli/objects.yaml"))?;
    Ok(())
}

fn compare(cluster: &Cluster, row: &str, stderr: bool) -> Result<()> {
    let objects = cluster.scratch().join("cli_objects.yaml").display().to_string();
    let words: Vec<String> = split(row).iter().map(|word| word.replace("@objects", &objects)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let deadline = Instant::now() + SETTLE;
    loop {
        let theirs = run_with(&mut cluster.kubectl_command(&words), "", PATIENCE)?;
        let ours = run_with(&mut cluster.own_client_command(&words)?, "", PATIENCE)?;
        let (kubectl, knarr) = (text(&theirs, stderr), text(&ours, stderr));
        if kubectl == knarr {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("--- kubectl\n{}--- knarr\n{}", only_in(&kubectl, &knarr), only_in(&knarr, &kubectl));
        }
    }
}

/// Words as a shell splits them: blanks do, except between single quotes.
pub fn split(row: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in row.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words
}

/// All that was said, without what passes: times, ages and versions.
fn text(said: &Said, stderr: bool) -> String {
    let mut text = format!("exit code {}\n{}", said.code, said.stdout);
    if stderr {
        text += &format!("--- stderr\n{}", said.stderr);
    }
    let mut lines = String::new();
    for line in text.replace("kubectl", "knarr").lines() {
        let words: Vec<String> = line.split(' ').map(steady).collect();
        lines += &format!("{}\n", words.join(" "));
    }
    lines
}

fn steady(word: &str) -> String {
    let bare = word.trim_end_matches([',', ')', '.', '"']);
    let is_age = bare.len() > 1
        && bare.starts_with(|c: char| c.is_ascii_digit())
        && bare.chars().all(|c| c.is_ascii_digit() || matches!(c, 's' | 'm' | 'h' | 'd'))
        && bare.ends_with(['s', 'm', 'h', 'd']);
    let is_clock =
        bare.len() == 8 && bare.split(':').count() == 3 && bare.chars().all(|c| c.is_ascii_digit() || c == ':');
    if is_age || is_clock { "TIME".into() } else { word.into() }
}

/// The lines of one text that the other has not.
fn only_in(text: &str, other: &str) -> String {
    let known: HashSet<&str> = other.lines().collect();
    text.lines().filter(|line| !known.contains(line)).take(12).map(|line| format!("{line}\n")).collect()
}
