//! Telling the user something, whether or not anybody still reads it.

use std::{fmt, io::Write};

/// `println!` for a program that outlives its reader: a closed pipe or a full disk behind standard output is no
/// reason to end a cluster.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}
pub(crate) use say;

pub fn line(words: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{words}");
}
