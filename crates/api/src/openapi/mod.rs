//! OpenAPI documents of the built-ins, made from the schema table when asked for: v3 by group-version, and v2.
//!
//! A document takes some tens of milliseconds to write, so a server keeps the bytes while clients ask for them.

/// The body of `/openapi/v3`: where each group-version's document is, with a hash that changes with its content.
pub fn v3_index() -> Vec<u8> {
    Vec::new()
}

/// The document of a group-version as the index names it (`api/v1`, `apis/apps/v1`).
pub fn v3_document(_group_version: &str) -> Option<Vec<u8>> {
    None
}

/// Swagger 2.0 of all built-ins, as JSON.
pub fn v2() -> Vec<u8> {
    Vec::new()
}
