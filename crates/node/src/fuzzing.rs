//! What `fuzz/` calls: decoders of what clients and administrators send that are nobody else's business.

use std::path::Path;

use bytes::BytesMut;

use crate::spdy::{Inflater, decode};

/// All frames of a connection.
pub fn spdy(bytes: &[u8]) {
    let (mut buffer, mut inflater) = (BytesMut::from(bytes), Inflater::new());
    while let Ok(Some(_)) = decode(&mut buffer, &mut inflater) {}
}

pub fn static_pod(text: &str) {
    let _ = crate::static_pods::parse(text, Path::new("fuzz.yaml"), "node");
}
