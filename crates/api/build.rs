//! Turns the tables under `data/` into statics, so that a process starts with them in place.

#[path = "build/registry.rs"]
mod registry;

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=data");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let resources = fs::read_to_string("data/resources-1.36.tsv").expect("data/resources-1.36.tsv is in the source");
    fs::write(out.join("registry.rs"), registry::generate(&resources)).expect("OUT_DIR can be written");
}
