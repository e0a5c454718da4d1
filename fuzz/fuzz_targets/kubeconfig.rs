//! Kubeconfig files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| knarr_cli::fuzzing::kubeconfig(text));
