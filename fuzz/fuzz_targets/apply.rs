//! Server-side apply of any configuration, twice, and an update after it.
#![no_main]

use knarr_api::{
    apply::{ApplyRequest, Writer, apply, reset_fields, track_update},
    schema,
};
use knarr_fuzz::DEPLOYMENT;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(mut config) = serde_json::from_slice::<Value>(data) else { return };
    // Without a version the server does not let it come so far.
    let Some(map) = config.as_object_mut() else { return };
    map.insert("apiVersion".into(), "apps/v1".into());
    let writer = |manager| Writer {
        schema: schema::of("apps", "v1", "Deployment"),
        manager,
        subresource: "",
        now: jiff::Timestamp::UNIX_EPOCH,
        reset: reset_fields(true, ""),
    };
    let mut live = DEPLOYMENT.clone();
    track_update(writer("maker"), None, &mut live);
    let request = ApplyRequest { writer: writer("fuzz"), live: Some(&live), config: &config, force: true };
    let Ok(once) = apply(request) else { return };
    let twice = apply(ApplyRequest { live: Some(&once), ..request }).expect("what could be applied can be again");
    assert_eq!(once, twice, "applying twice is applying once");
    let mut updated = DEPLOYMENT.clone();
    track_update(writer("updater"), Some(&once), &mut updated);
});
