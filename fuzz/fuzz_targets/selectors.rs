//! Label and field selectors: what is read is written so that it is read as the same.
#![no_main]

use knarr_api::selector::{FieldSelector, LabelSelector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = LabelSelector::parse(text) {
        assert_eq!(LabelSelector::parse(&selector.to_string()).as_ref(), Ok(&selector), "{selector}");
        selector.matches(|_| Some("a"));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        assert_eq!(FieldSelector::parse(&selector.to_string()).as_ref(), Ok(&selector), "{selector}");
        selector.matches(|_| "a");
    }
});
