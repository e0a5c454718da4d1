//! A layer: gzip, zstd or plain tar, unpacked into an empty directory.
#![no_main]

use knarr_runtime::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let directory = tempfile::tempdir().expect("there is a directory for what is temporary");
    let _ = fuzzing::layer(data, directory.path());
});
