//! What `fuzz/` calls: decoders of what clients and administrators send that are nobody else's business.

use std::path::Path;

pub fn static_pod(text: &str) {
    let _ = crate::static_pods::parse(text, Path::new("fuzz.yaml"), "node");
}
