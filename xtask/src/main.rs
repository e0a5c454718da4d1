//! What `./x` runs: set-up, tests, demo. Each step says what it does; what fails says how to go on.

#![allow(clippy::disallowed_methods)] // this tool's work is to run others

mod bench;
mod demo;
mod graph;
mod protobuf_facts;
mod run;
mod schema_facts;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: ./x COMMAND

  demo    start a one-node cluster, deploy a sample app on it and update it; Ctrl-C ends it
  test    everything: format, lints, licences, unit, property and end-to-end tests;
          test lint, test unit, test e2e [FILTER] run a part of it
  build   the release binary alone; where the variable KNARR names one, demo, test and bench take that instead
  bench   this project's benchmarks
  setup   only install what the tests need
  protobuf-facts DIR  print crates/api/data/protobuf-1.35.tsv, made from the sources of the k8s-pb crate
  schema-facts FILE   print crates/api/data/schema-facts-1.36.tsv, made from upstream's swagger.json";

fn main() -> ExitCode {
    match execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("demo") => demo::run(),
        Some("test") => test::run(&args[1..]),
        Some("build") => run::release_binary().map(|path| println!("{}", path.display())),
        Some("bench") => bench::run(&args[1..]),
        Some("setup") => setup::everything().map(drop),
        Some("protobuf-facts") => protobuf_facts::run(&args[1..]),
        Some("schema-facts") => schema_facts::run(&args[1..]),
        Some("help" | "--help" | "-h") | None => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("there is no command {other:?}\n{USAGE}"),
    }
}
