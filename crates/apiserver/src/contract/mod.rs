//! The seams inside the API server: who asks (authentication), may they (authorisation), what is made of it
//! (admission), and what answers beside the generic path (subresources). Handlers know these traits only.

mod admission;
mod auth;
mod lookup;
mod source;
mod subresource;

pub use admission::{Admission, AdmissionRequest, Operation, Stage};
pub use auth::{Attributes, AuthenticationError, Authenticator, Authorizer, Credentials, Decision, UserInfo};
pub use lookup::{Ask, ChangeFn, Fields, KeptForm, KeptMessage, Labels, Lookup, Stored};
pub use source::ObjectSource;
pub use subresource::{Body, Response, SubresourceHandler, SubresourceRequest};
