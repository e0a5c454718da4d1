//! What writing JSON patches takes: `jsonpatch.escapeKey('a/b')` is `a~1b` (RFC 6901).

use super::{Cost, Row, Sig, global, run};
use crate::value::Value;

/// Known only where expressions make patches.
pub(crate) const ESCAPE_KEY: &str = "jsonpatch.escapeKey";

pub(crate) const ROWS: &[Row] = &[global(
    ESCAPE_KEY,
    &[Sig::String],
    Sig::String,
    Cost::Fixed(1),
    run!([Value::String(key)] => Ok(Value::text(key.replace('~', "~0").replace('/', "~1")))),
)];
