//! Rows of the store's log.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| knarr_store::fuzzing::row(data));
