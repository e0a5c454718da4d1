//! kubectl's commands one by one: each says, word for word, what upstream's documentation and sources have it say.

mod access;
mod cluster_info;
mod create;
mod debug;
mod explain;
mod labels;
mod nodes;
mod patch;
mod prune;
mod requests;
mod set;
mod streams;
mod tokens;
mod wait;
mod watch;

use std::process::Command;

use anyhow::{Result, bail, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, Running, Said, run_with, start},
};

use crate::{Shared, cli::split};

pub fn tests() -> Vec<(&'static str, Shared)> {
    [
        access::tests(),
        cluster_info::tests(),
        create::tests(),
        debug::tests(),
        explain::tests(),
        labels::tests(),
        nodes::tests(),
        patch::tests(),
        prune::tests(),
        requests::tests(),
        set::tests(),
        streams::tests(),
        tokens::tests(),
        wait::tests(),
        watch::tests(),
    ]
    .concat()
}

/// kubectl in a namespace of its own, which goes with it.
struct Kubectl<'a> {
    cluster: &'a Cluster,
    ns: String,
}

impl<'a> Kubectl<'a> {
    fn new(cluster: &'a Cluster, prefix: &str) -> Result<Self> {
        Ok(Self { cluster, ns: cluster.namespace(prefix)? })
    }

    fn command(&self, line: &str) -> Command {
        let mut kubectl = self.cluster.kubectl_command(&["-n", &self.ns]);
        kubectl.args(split(line)).current_dir(self.cluster.scratch());
        kubectl
    }

    /// Runs a line, split as a shell does, however it ends.
    fn run(&self, line: &str, stdin: &str) -> Result<Said> {
        run_with(&mut self.command(line), stdin, PATIENCE)
    }

    /// Starts a line that writes to a file, where one can look while it goes on.
    fn start_into(&self, file: &str, line: &str) -> Result<Running> {
        let command = self.command(line);
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" > \"$0\" 2>&1", file]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        start(&mut shell, "")
    }

    /// Runs a line that must succeed; gives what it wrote.
    fn ask(&self, line: &str) -> Result<String> {
        let said = self.run(line, "")?;
        ensure!(said.code == 0, "kubectl {line} ended with {}:\n{}", said.code, said.all());
        Ok(said.stdout)
    }

    /// Runs a line with input that must succeed.
    fn feed(&self, line: &str, stdin: &str) -> Result<String> {
        let said = self.run(line, stdin)?;
        ensure!(said.code == 0, "kubectl {line} ended with {}:\n{}\nfor:\n{stdin}", said.code, said.all());
        Ok(said.stdout)
    }

    /// Runs lines one after the other: each must succeed and say exactly this, `NS` being the namespace.
    fn say(&self, rows: &[(&str, &str)]) -> Result<()> {
        self.compare(0, rows)
    }

    /// Runs lines that must fail, and say exactly this.
    fn refuse(&self, rows: &[(&str, &str)]) -> Result<()> {
        self.compare(1, rows)
    }

    fn compare(&self, code: i32, rows: &[(&str, &str)]) -> Result<()> {
        let mut wrong = Vec::new();
        for (line, wanted) in rows {
            let (line, wanted) = (line.replace("NS", &self.ns), wanted.replace("NS", &self.ns));
            let said = self.run(&line, "")?;
            if said.code != code || said.all().trim_end() != wanted.trim_end() {
                wrong.push(format!("kubectl {line}\nended with {}:\n{}\nwanted:\n{wanted}", said.code, said.all()));
            }
        }
        ensure!(wrong.is_empty(), "{} of {} lines:\n{}", wrong.len(), rows.len(), wrong.join("\n\n"));
        Ok(())
    }

    /// Runs a line that must write this table: its words in their order, `*` for any.
    fn table(&self, line: &str, wanted: &[&str]) -> Result<()> {
        let text = self.ask(line)?;
        if is_table(&text, wanted) { Ok(()) } else { bail!("kubectl {line}:\n{text}\nwanted:\n{}", wanted.join("\n")) }
    }

    fn end(self) -> Result<()> {
        self.ask(&format!("delete namespace {} --wait=false", self.ns)).map(drop)
    }
}

fn is_table(text: &str, wanted: &[&str]) -> bool {
    let same = |line: &str, wanted: &str| {
        let (line, wanted): (Vec<_>, Vec<_>) = (line.split_whitespace().collect(), wanted.split(' ').collect());
        line.len() == wanted.len() && line.iter().zip(wanted).all(|(word, wanted)| wanted == "*" || *word == wanted)
    };
    text.lines().count() == wanted.len() && text.lines().zip(wanted).all(|(line, wanted)| same(line, wanted))
}
