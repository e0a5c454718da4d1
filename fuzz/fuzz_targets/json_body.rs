//! A create request's body in JSON, of every kind: read, defaulted, checked, printed, and written as protobuf.
#![no_main]

use knarr_fuzz::through_the_rules;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| through_the_rules("application/json", data));
