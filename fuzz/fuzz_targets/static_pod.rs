//! Manifests of static pods.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| knarr_node::fuzzing::static_pod(text));
