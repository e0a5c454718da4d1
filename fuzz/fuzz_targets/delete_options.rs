//! DeleteOptions in each form, with a query beside them.
#![no_main]

use knarr_apiserver::fuzzing;
use knarr_fuzz::halves;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (query, body) = halves(data);
    for form in ["application/json", "application/yaml", knarr_api::protobuf::MEDIA_TYPE] {
        let _ = fuzzing::delete_options(form, body, &String::from_utf8_lossy(query));
    }
});
