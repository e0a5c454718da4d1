//! DNS packets of pods, and what is answered.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| knarr_net::fuzzing::dns(data));
