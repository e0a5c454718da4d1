//! SPDY frames of port-forward's clients, with compressed headers.
#![no_main]

use knarr_streaming::spdy::{Inflater, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (mut buffer, mut inflater) = (bytes::BytesMut::from(data), Inflater::new());
    while let Ok(Some(_)) = decode(&mut buffer, &mut inflater) {}
});
