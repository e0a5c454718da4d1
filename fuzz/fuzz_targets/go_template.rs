//! Templates of `-o go-template`.
#![no_main]

use knarr_fuzz::DEPLOYMENT;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| knarr_cli::fuzzing::go_template(text, &DEPLOYMENT));
