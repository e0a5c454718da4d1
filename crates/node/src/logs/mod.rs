//! Container logs in the CRI format: a file for each run, one line for each write (or part of one), with time
//! and stream in front.

mod follow;
mod line;
mod rotate;
mod tail;

pub use follow::{Options, stream};
pub use line::StreamKind;
pub use rotate::{Limits, Rotator};
pub use tail::{files, tail_lines};

#[cfg(test)]
mod tests;
