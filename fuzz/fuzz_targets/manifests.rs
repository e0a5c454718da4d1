//! Manifests given to the command line; what is printed as YAML is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| knarr_cli::fuzzing::manifests(text));
