//! A create request's body in YAML.
#![no_main]

use knarr_fuzz::through_the_rules;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| through_the_rules("application/yaml", data));
