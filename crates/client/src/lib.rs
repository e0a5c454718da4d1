//! How a part of Knarr talks to the API: a `kube::Client` (in process or over HTTPS), shared informers, work
//! queues, supervised workers and an event recorder. Never knows the API server: its service is handed in.
//!
//! A controller is three lines of wiring: [`informer::Informer::on_change`] puts keys into a
//! [`queue::WorkQueue`], [`worker::run`] takes them out and reconciles, and reads go to the informers' caches.

pub mod call;
pub mod clock;
pub mod connect;
pub mod dial;
pub mod errors;
pub mod events;
pub mod https;
pub mod informer;
pub mod lean;
pub mod meta;
pub mod queue;
pub mod supervise;
pub mod worker;

pub use clock::Clock;
pub use connect::{ConnectError, from_kubeconfig, in_process};
pub use events::Recorder;
pub use informer::{Change, Changes, Informer, Informers};
pub use meta::ObjectKey;
pub use queue::WorkQueue;
pub use worker::Outcome;
