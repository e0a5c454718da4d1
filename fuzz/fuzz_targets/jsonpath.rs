//! JSONPath, as templates and as the paths of columns.
#![no_main]

use knarr_api::jsonpath::JsonPath;
use knarr_fuzz::DEPLOYMENT;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for path in [JsonPath::parse(text), JsonPath::relaxed(text)].into_iter().flatten() {
        let _ = path.print(&DEPLOYMENT, true);
    }
});
