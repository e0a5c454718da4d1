//! A create request's body in protobuf, whose envelope names its kind.
#![no_main]

use knarr_api::protobuf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for body in [data.to_vec(), [b"k8s\0", data].concat()] {
        let Ok(object) = protobuf::decode(&body) else { continue };
        // What is decoded can be encoded; whoever reads that has the same object.
        if let Ok(again) = protobuf::encode(object.to_string().as_bytes()) {
            assert!(protobuf::decode(&again).is_ok(), "{object}");
        }
    }
});
