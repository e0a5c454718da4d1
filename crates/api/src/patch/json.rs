//! JSON patch, with upstream's words for what goes wrong.

use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// Upstream's limit: a patch of more operations is refused before it costs anything.
const MAX_OPERATIONS: usize = 10_000;
/// Upstream's limit on what all copies of a patch add up to: a few lines could otherwise ask for any memory.
const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;
/// Parsers of JSON give up at 128 levels, this process's included.
const MAX_DEPTH: usize = 120;

/// How many values are looked at in all to see how deep those are that move: each operation may name the largest.
const MAX_VISITED: usize = 20_000_000;

/// RFC 6902: the operations one after the other; all or none.
pub fn json_patch(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > MAX_OPERATIONS {
        let message = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(PatchError::TooLarge { message });
    }
    let patch: Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::malformed(format!("error decoding patch: {error}")))?;
    let mut result = original.clone();
    let (mut copied_bytes, mut visited) = (0, 0);
    for operation in patch.iter() {
        check_depth(&result, operation, &mut visited)?;
        if let PatchOperation::Copy(copy) = operation {
            copied_bytes += result.pointer(copy.from.as_str()).map_or(0, |source| source.to_string().len());
            if copied_bytes > MAX_COPIED_BYTES {
                return Err(PatchError::does_not_apply(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, exceeding \
                     the limit {MAX_COPIED_BYTES}"
                )));
            }
        }
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(operation))
            .map_err(|error| PatchError::does_not_apply(words(operation, &error.kind)))?;
    }
    Ok(result)
}

/// Refuses what would nest more deeply than a stored object can be read again.
fn check_depth(document: &Value, operation: &PatchOperation, visited: &mut usize) -> Result<(), PatchError> {
    let value = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Move(from) => document.pointer(from.from.as_str()),
        PatchOperation::Copy(from) => document.pointer(from.from.as_str()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let above = operation.path().as_str().matches('/').count();
    let below = value.map_or(0, |value| depth(value, visited));
    if *visited > MAX_VISITED {
        return Err(PatchError::TooLarge { message: "The operations of the JSON patch move too much".to_owned() });
    }
    if value.is_some() && above + below > MAX_DEPTH {
        return Err(PatchError::does_not_apply(format!(
            "the patched object would nest more than {MAX_DEPTH} levels deep"
        )));
    }
    Ok(())
}

fn depth(value: &Value, visited: &mut usize) -> usize {
    *visited += 1;
    match value {
        Value::Object(map) => 1 + map.values().map(|value| depth(value, visited)).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(|value| depth(value, visited)).max().unwrap_or(0),
        _ => 0,
    }
}

fn words(operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let path = operation.path();
    let missing = |verb: &str, what: &str, path: &str| {
        format!("{verb} operation does not apply: doc is missing {what}: {path}: missing value")
    };
    match (operation, kind) {
        (PatchOperation::Test(_), PatchErrorKind::TestFailed) => format!("testing value {path} failed: test failed"),
        (PatchOperation::Test(_), _) => missing("test", "path", path.as_str()),
        (PatchOperation::Add(_), _) => missing("add", "path", path.as_str()),
        (PatchOperation::Replace(_), _) => missing("replace", "key", path.as_str()),
        (PatchOperation::Remove(_), _) => {
            let key = path.as_str().rsplit('/').next().unwrap_or_default();
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        }
        (PatchOperation::Move(o), PatchErrorKind::InvalidFromPointer) => missing("move", "from path", o.from.as_str()),
        (PatchOperation::Move(_), _) => missing("move", "path", path.as_str()),
        (PatchOperation::Copy(o), PatchErrorKind::InvalidFromPointer) => missing("copy", "from path", o.from.as_str()),
        (PatchOperation::Copy(_), _) => missing("copy", "path", path.as_str()),
    }
}
