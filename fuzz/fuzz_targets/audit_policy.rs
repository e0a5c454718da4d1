//! Audit policies.
#![no_main]

use knarr_apiserver::audit::Policy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| drop(Policy::parse(data)));
