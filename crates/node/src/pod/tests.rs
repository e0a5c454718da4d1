//! The planner's table, and whole lives of pods on a scripted runtime.

mod devices;
mod ends;
mod lives;
mod plans;
mod references;
mod resizes;
mod wishes;
