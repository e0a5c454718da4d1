//! JSON patches, merge patches and strategic ones, to a Deployment.
#![no_main]

use knarr_api::{patch, schema};
use knarr_fuzz::DEPLOYMENT;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    let ty = schema::of("apps", "v1", "Deployment").expect("it is built in");
    for patched in [
        patch::json_patch(&DEPLOYMENT, &body),
        patch::merge_patch(&DEPLOYMENT, &body),
        patch::strategic_merge_patch(ty, &DEPLOYMENT, &body),
    ] {
        // What was patched has to be readable again.
        let Ok(patched) = patched else { continue };
        assert!(serde_json::from_str::<Value>(&patched.to_string()).is_ok());
    }
});
