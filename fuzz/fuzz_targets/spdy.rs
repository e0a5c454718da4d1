//! SPDY frames of port-forward's clients, with compressed headers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| knarr_node::fuzzing::spdy(data));
