//! What `fuzz/` calls: readers of images, and of what shims say.

use std::{io, path::Path};

use crate::{images, shim::protocol};

/// A layer, packed or not, into an empty directory.
pub fn layer(bytes: &[u8], directory: &Path) -> io::Result<u64> {
    images::unpack::unpack(images::unpack::decompress(bytes)?, directory)
}

/// Documents of a registry or an archive.
pub fn documents(bytes: &[u8]) {
    images::documents::fuzz(bytes);
}

pub fn reference(text: &str) {
    if let Ok(full) = images::normalise(text) {
        assert_eq!(images::normalise(&full).ok(), Some(full.clone()), "the full form of {text:?} is its own");
        images::reference::repository(&full);
    }
}

pub fn shim_frames(bytes: &[u8]) {
    let mut buffer = bytes.to_vec();
    while let Ok(Some(frame)) = protocol::take_frame(&mut buffer) {
        let _ = serde_json::from_slice::<protocol::Request>(&frame);
        let _ = serde_json::from_slice::<protocol::Reply>(&frame);
    }
}

/// A profile of system calls, as administrators write it.
pub fn seccomp(bytes: &[u8]) {
    crate::spec::seccomp::fuzz(bytes);
}
