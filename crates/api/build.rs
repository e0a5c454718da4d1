//! Turns the tables under `data/` into statics, so that a process starts with them in place.

#[path = "build/registry.rs"]
mod registry;
#[path = "build/schema/mod.rs"]
mod schema;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=data");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write(&out, "registry.rs", registry::generate(&read("data/resources-1.36.tsv")).as_bytes());
    // Clients keep OpenAPI documents by their hash, so it must change with the code that writes them.
    let writers = [
        "mod",
        "custom",
        "enums",
        "paths",
        "paths/parameters",
        "protobuf/mod",
        "protobuf/v2",
        "protobuf/v3",
        "schemas",
    ];
    let writers = writers.map(|name| format!("src/openapi/{name}.rs"));
    writers.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    let tables = ["facts", "defaults", "enums"].map(|name| read(&format!("data/schema-{name}-1.36.tsv")));
    let schema = schema::generate(&tables, &writers.map(|path| read(&path)).concat());
    write(&out, "schema.rs", schema.source.as_bytes());
    write(&out, "docs.deflate", &schema.docs);
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn write(out: &Path, name: &str, content: &[u8]) {
    fs::write(out.join(name), content).unwrap_or_else(|error| panic!("{name} in OUT_DIR: {error}"));
}
