//! `./x bench`: this project's own benchmarks, in release builds.

use anyhow::Result;

use crate::run::{cargo, check};

pub fn run(args: &[String]) -> Result<()> {
    check(cargo().args(["run", "--release", "--package", "knarr-bench", "--"]).args(args))
}
