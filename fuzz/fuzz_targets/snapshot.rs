//! Backups: any bytes, and records with a right head.
#![no_main]

use knarr_store::snapshot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = snapshot::read(data, &mut |_| Ok(()));
    let _ = snapshot::read(&[&b"knarr snapshot 1"[..], data].concat()[..], &mut |_| Ok(()));
});
