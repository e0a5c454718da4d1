//! The Kubernetes API as data and pure functions: no async, no I/O, no clock, no randomness of its own.

pub mod strategy;
