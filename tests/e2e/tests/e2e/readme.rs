//! Every command in the README, in its order, as somebody would type it who has just built Knarr.

use std::{env, ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use knarr_e2e::{
    command::{Running, run, start, succeed},
    eventually,
    host::OUTSIDE,
};

use crate::Alone;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
/// What builds Knarr and runs its tests: it has been run when this is.
const BUILDS: [&str; 2] = ["./x ", "cargo "];
/// How the commands begin that have to stand in a block that is run.
const COMMANDS: [&str; 4] = ["knarr ", "kubectl ", "helm ", "curl "];

/// The mark of blocks whose lines are typed one after another, and of the one that takes several machines.
const HERE: &str = "sh";
const MACHINES: &str = "sh machines";

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![
        ("every_command_in_the_readme_works", every_command_in_the_readme_works),
        ("the_readmes_machines_join", the_readmes_machines_join),
    ]
}

/// The server runs here, the other machine is the one outside.
fn the_readmes_machines_join() -> Result<()> {
    let commands = commands(&fs::read_to_string(README)?, MACHINES)?;
    let home = tempfile::Builder::new().prefix("knarr-e2e-").tempdir()?;
    let result = join(home.path(), &commands);
    for data in ["agent", "data"] {
        // A process that its test left behind is ended by this too.
        type_in(home.path(), &format!("knarr reset --yes --data-dir {}", home.path().join(data).display()))?;
    }
    result
}

fn join(home: &Path, commands: &[String]) -> Result<()> {
    let kubeconfig = home.join("data/admin.kubeconfig");
    let mut running: Vec<Running> = Vec::new();
    let mut printed = String::new();
    for line in commands {
        match line.split_whitespace().nth(1) {
            Some("server") => running.push(start(&mut shell(home, line)?, "")?),
            Some("token") => {
                printed = eventually("the server makes tokens", || succeed(&mut shell(home, line)?))?;
            }
            Some("agent") => {
                let shape = |line: &str| -> Vec<String> {
                    let words = line.split('#').next().unwrap_or_default().split_whitespace();
                    words.enumerate().filter(|(at, _)| ![3, 5].contains(at)).map(|(_, word)| word.to_owned()).collect()
                };
                ensure!(
                    shape(line) == shape(&printed),
                    "README.md has {line:?}, and what is to be typed is {printed:?}"
                );
                let agent = format!(
                    "exec nsenter --net=/run/netns/{OUTSIDE} {} --node-name other --data-dir {}",
                    printed.trim(),
                    home.join("agent").display()
                );
                running.push(start(&mut shell(home, &agent)?, "")?);
            }
            _ => eventually("both machines are ready", || {
                let nodes = succeed(shell(home, line)?.env("KUBECONFIG", &kubeconfig))?;
                let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready")).count();
                ensure!(ready == 2, "{nodes}");
                Ok(())
            })?,
        }
    }
    ensure!(running.len() == 2, "README.md starts {} processes", running.len());
    Ok(())
}

fn every_command_in_the_readme_works() -> Result<()> {
    let commands = commands(&fs::read_to_string(README)?, HERE)?;
    ensure!(commands.len() > 20, "only {} commands were found", commands.len());
    let home = tempfile::Builder::new().prefix("knarr-e2e-").tempdir()?;
    let result = commands.iter().try_for_each(|line| type_in(home.path(), line));
    // What a failure leaves would be in the way of the tests that follow.
    for line in ["knarr cluster delete bootcamp", "knarr reset --yes"] {
        if result.is_err() {
            run(&mut shell(home.path(), line)?)?;
        }
    }
    result?;
    let left: Vec<_> = fs::read_dir(home.path())?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(!left.iter().any(|name| name == "data" || name == "clusters"), "left behind: {left:?}");
    ensure!(!home.path().join(".kube/config").exists(), "the kubeconfig is still there");
    Ok(())
}

fn type_in(home: &Path, line: &str) -> Result<()> {
    succeed(&mut shell(home, line)?).map(drop).with_context(|| format!("README.md: {line}"))
}

/// A shell at the root of the sources that finds the programs, and keeps to a home and directories of this test.
fn shell(home: &Path, line: &str) -> Result<Command> {
    let bin = home.join("bin");
    fs::create_dir_all(&bin)?;
    let program = env::var_os("KNARR").context("KNARR is not set")?;
    let _ = std::os::unix::fs::symlink(fs::canonicalize(program)?, bin.join("knarr"));
    let mut path = bin.into_os_string();
    for part in [env::var_os("KNARR_TEST_TOOLS"), env::var_os("PATH")] {
        path.push(":");
        path.push(part.unwrap_or(OsString::new()));
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("PATH", path).env("HOME", home).env_remove("KUBECONFIG");
    shell.env("KNARR_DATA_DIR", home.join("data")).env("KNARR_CLUSTERS_DIR", home.join("clusters"));
    shell.current_dir(Path::new(README).parent().context("no folder")?);
    Ok(shell)
}

/// The lines of the blocks with a mark. A command in any other block would be one that nobody runs.
fn commands(text: &str, mark: &str) -> Result<Vec<String>> {
    let mut commands = Vec::new();
    let mut block: Option<&str> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(kind), None) => block = Some(kind),
            (Some(_), Some(_)) => block = None,
            (None, Some(kind)) if kind == mark => commands.push(line.to_owned()),
            (None, Some(kind)) if COMMANDS.iter().any(|command| line.starts_with(command)) => {
                ensure!([HERE, MACHINES].contains(&kind), "README.md: {line:?} stands in a block that nothing runs");
            }
            _ => {}
        }
    }
    let builds = |line: &str| BUILDS.iter().any(|build| line.starts_with(build));
    commands.retain(|line| !line.trim().is_empty() && !builds(line));
    Ok(commands)
}
