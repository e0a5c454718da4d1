//! `./x bench`: this project's own benchmarks, in release builds.

use anyhow::Result;

use crate::{
    run::{binary, cargo, check},
    setup,
};

pub fn run(args: &[String]) -> Result<()> {
    let (tools, binary) = (setup::everything()?, binary()?);
    let mut bench = cargo();
    bench.env("KNARR", binary).env("KNARR_TEST_TOOLS", tools.bin);
    check(bench.args(["run", "--release", "--package", "knarr-bench", "--"]).args(args))
}
