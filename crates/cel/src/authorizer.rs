//! How expressions ask what someone may do. Who answers is given in with the variables.

/// Answers whether something is allowed.
pub trait Authorizer: Send + Sync {
    fn check(&self, attributes: &Attributes) -> Decision;
}

/// What is asked. `user`: the service account `(namespace, name)` to ask for, or whoever makes the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub user: Option<(String, String)>,
    pub verb: String,
    /// Set for a path that is no resource; all below is empty then.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
}

/// The answer. An error is one of asking, not a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}
