//! The three ways to patch an object: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch.
//!
//! All take the object as it is and the patch's body, and return the object as it would be; nothing is changed in
//! place, so a failed patch loses nothing.

mod json;
mod order;
mod strategic;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use json::json_patch;
pub use strategic::strategic_merge_patch;

/// Why a patch could not be applied. The messages are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is not of its own format: answer 400 Bad Request.
    #[error("{message}")]
    Malformed { message: String },
    /// The patch is well-formed but does not fit this object: answer 422, with reason Invalid for JSON patches.
    #[error("{message}")]
    DoesNotApply { message: String },
    /// The patch asks for more than the server does in one request: answer 413.
    #[error("{message}")]
    TooLarge { message: String },
}

impl PatchError {
    fn malformed(message: impl Into<String>) -> PatchError {
        PatchError::Malformed { message: message.into() }
    }

    fn does_not_apply(message: impl Into<String>) -> PatchError {
        PatchError::DoesNotApply { message: message.into() }
    }
}

/// RFC 7386: objects are merged, null removes, everything else replaces.
pub fn merge_patch(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::malformed("error decoding patch: the merge patch must be a JSON object"));
    }
    let mut result = original.clone();
    json_patch::merge(&mut result, patch);
    Ok(result)
}
