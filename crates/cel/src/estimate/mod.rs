//! What an expression can cost at most, before it is evaluated.

use crate::{program::Inner, schema::Declaration};

/// The least and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub max: u64,
}

/// Until calls are estimated one by one, anything may cost anything.
pub(crate) fn estimate(_: &Inner, variables: &[(&str, &Declaration)]) -> Range {
    let biggest = variables.iter().map(|(_, declaration)| declaration.max_elements).max().unwrap_or(0);
    Range { max: u64::MAX.saturating_sub(biggest) }
}
