//! Probes: what to ask a container ([`attempt`]), how often ([`task`]) and what to make of the answers
//! ([`judge`], pure). Only a change of the verdict is reported, so that a healthy pod costs its worker nothing.

mod attempt;
mod grpc;
pub mod http;
mod judge;
mod tally;
pub(crate) mod task;

pub use attempt::{Outcome, Target};
pub use judge::{Judge, Schedule, Verdict};
pub use tally::{Row, Subject, Tally};
pub use task::{Probes, Report, Tell, Wanted};

/// The three probes a container may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

#[cfg(test)]
mod tests;
