//! Path, query and Accept of a request, and continue tokens.
#![no_main]

use knarr_apiserver::fuzzing;
use knarr_fuzz::halves;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (path, rest) = halves(data);
    let (query, accept) = halves(rest);
    fuzzing::route(&String::from_utf8_lossy(path), &String::from_utf8_lossy(query), accept);
    fuzzing::continue_token(&String::from_utf8_lossy(data));
});
