//! `./x test`: all that must hold, in the order in which a failure costs the least time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    run::{binary, cargo, check, is_root, step},
    setup,
};

/// What can be asked for by itself, and what of it needs root.
const PARTS: [&str; 3] = ["lint", "unit", "e2e"];
/// How many of the slowest steps are named at the end.
const SLOWEST: usize = 4;

pub fn run(args: &[String]) -> Result<()> {
    let only = args.first().map(String::as_str);
    if let Some(part) = only.filter(|part| !PARTS.contains(part)) {
        bail!("there is no part {part:?} of the tests, only {}", PARTS.join(", "));
    }
    if only != Some("lint") && !is_root()? {
        bail!("the tests make namespaces and containers and need root: `sudo ./x test`; `./x test lint` works without");
    }
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut steps = Steps::default();
    let tools = steps.run("set-up", setup::everything)?;
    if wanted("lint") {
        steps.run("format", || check(cargo().args(["fmt", "--all", "--check"])))?;
        steps.run("licences", || check(cargo().args(["deny", "check", "licenses", "bans", "sources"])))?;
        steps.run("lints", || {
            check(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))
        })?;
    }
    if wanted("unit") {
        steps.run("unit and property tests", || {
            let mut test = cargo();
            test.args(["test", "--workspace", "--exclude", "knarr-e2e", "--quiet"]);
            // Named, and not found by those who need it: what is missing fails then, where it would be skipped.
            test.env("KNARR_TEST_ETCD", setup::etcd()?).env("KNARR_TEST_CONTAINERD", setup::containerd()?);
            check(&mut test)
        })?;
    }
    if wanted("e2e") {
        let binary = steps.run("release build", binary)?;
        steps.run("end-to-end tests", || {
            let mut test = cargo();
            test.args(["test", "--package", "knarr-e2e", "--test", "e2e", "--"]).args(args.iter().skip(1));
            test.env("KNARR_TEST_REGISTRY", setup::registry()?);
            check(test.env("KNARR", &binary).env("KNARR_TEST_TOOLS", &tools.bin))
        })?;
    }
    println!("\nall passed; {steps}");
    Ok(())
}

/// The steps so far, and how long each took.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn run<T>(&mut self, name: &'static str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = step(name, act)?;
        self.0.push((name, start.elapsed()));
        Ok(done)
    }
}

impl std::fmt::Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut steps = self.0.clone();
        steps.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let total: Duration = steps.iter().map(|(_, took)| *took).sum();
        let slowest: Vec<String> =
            steps.iter().take(SLOWEST).map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64())).collect();
        write!(f, "{:.0} s in all, most of it: {}", total.as_secs_f64(), slowest.join(", "))
    }
}
