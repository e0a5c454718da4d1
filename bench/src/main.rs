//! The project's own benchmarks, one JSON line a result. What they showed, beside upstream: `docs/benchmarks.md`.

#![allow(clippy::disallowed_methods)] // what is measured is a program, and the time between

mod cluster;
mod density;
mod flood;
mod load;
mod nodes;
mod scale;
mod store;
mod trace;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let case = std::env::args().nth(1).unwrap_or_else(|| "all".into());
    if case != "store" {
        // First, because it runs this program again in a network of its own.
        knarr_e2e::host::enter()?;
    }
    match case.as_str() {
        "all" => cluster::run().and_then(|()| nodes::run()).and_then(|()| store::run()),
        "cluster" => cluster::run(),
        "density" => density::run(),
        "flood" => flood::run(),
        "load" => load::run(),
        "nodes" => nodes::run(),
        "scale" => scale::run(),
        "store" => store::run(),
        "trace" => trace::run(),
        other => {
            bail!(
                "there is no benchmark {other:?}; there are: cluster, density, flood, load, nodes, scale, store, trace"
            )
        }
    }
}
