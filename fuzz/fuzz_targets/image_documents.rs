//! Manifests, indexes and configurations of images; their names; seccomp profiles; what shims say.
#![no_main]

use knarr_runtime::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    fuzzing::documents(data);
    fuzzing::seccomp(data);
    fuzzing::shim_frames(data);
    fuzzing::reference(&String::from_utf8_lossy(data));
});
