//! Files of tokens and keys, and tokens of an identity provider.
#![no_main]

use knarr_apiserver::fuzzing;
use knarr_fuzz::halves;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    fuzzing::credential_files(&text);
    let (keys, token) = halves(data);
    fuzzing::oidc(&String::from_utf8_lossy(token), &serde_json::from_slice(keys).unwrap_or_default());
});
