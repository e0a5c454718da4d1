//! The project's own benchmarks: parts measured alone, one JSON line a result. Whole-cluster figures and how they
//! are taken: `docs/benchmarks.md`.

mod store;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let case = std::env::args().nth(1).unwrap_or_else(|| "all".into());
    match case.as_str() {
        "store" | "all" => store::run(),
        other => bail!("there is no benchmark {other:?}; there is: store"),
    }
}
