//! `knarr check`: what this host offers, and what is lost where something is missing. Looks only.

mod kernel;
mod place;

use std::io::IsTerminal;

use anyhow::Result;

use crate::{cli::CheckArgs, datadir::DataDir, say::say};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Works, with a loss.
    Degraded,
    /// `knarr up` refuses to start.
    Missing,
}

/// One line of the table.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    /// What does not work, and what to do; said where the verdict is not good.
    lost: &'static str,
}

impl Finding {
    /// Good where it holds, else as bad as `without` says.
    fn of(what: &'static str, found: impl Into<String>, holds: bool, without: Verdict, lost: &'static str) -> Self {
        Self { what, found: found.into(), verdict: if holds { Verdict::Good } else { without }, lost }
    }
}

pub fn run(args: CheckArgs) -> Result<bool> {
    let CheckArgs { data, port, node_port } = args;
    let data = DataDir::at(&data.data_dir)?;
    let mut findings = kernel::findings();
    findings.extend(place::findings(&data, port, node_port));
    let count = |wanted| findings.iter().filter(|finding| finding.verdict == wanted).count();
    let (missing, degraded) = (count(Verdict::Missing), count(Verdict::Degraded));
    print(&findings);
    match (missing, degraded) {
        (0, _) if data.running().is_ok_and(|running| running.is_some()) => {
            say!("\na cluster runs in {}; `knarr status` shows how it is", data.root().display());
        }
        (0, 0) => say!("\nall is there: `knarr up` starts a cluster"),
        (0, _) => say!("\n`knarr up` starts a cluster, with the losses marked !"),
        _ => say!("\n`knarr up` cannot start a cluster before what is marked ✗ is mended"),
    }
    Ok(missing == 0)
}

fn print(findings: &[Finding]) {
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let width = findings.iter().map(|finding| finding.found.chars().count()).max().unwrap_or(0).min(52);
    say!("  {:<17} {:<width$}  WITHOUT IT", "WHAT", "FOUND");
    for Finding { what, found, verdict, lost } in findings {
        let (mark, colour, lost) = match verdict {
            Verdict::Good => ("✓", "\x1b[32m", ""),
            Verdict::Degraded => ("!", "\x1b[33m", *lost),
            Verdict::Missing => ("✗", "\x1b[31m", *lost),
        };
        let (colour, plain) = if coloured { (colour, "\x1b[0m") } else { ("", "") };
        say!("{}", format!("{colour}{mark}{plain} {what:<17} {found:<width$}  {lost}").trim_end());
    }
}
