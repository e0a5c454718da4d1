//! HTTP, authentication, admission, patches, watch fan-out: the Kubernetes API over a [`knarr_store::Store`].
//! Never a controller's logic.

pub mod contract;
