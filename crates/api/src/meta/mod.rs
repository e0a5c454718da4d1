//! `ObjectMeta`: the rules that hold for every object, whatever its kind
//! (`k8s.io/apimachinery/pkg/api/validation/objectmeta.go`).

pub mod names;
mod rules;
#[cfg(test)]
mod tests;

pub use names::generate_name;
pub(crate) use rules::{immutable, labels as validate_labels};
pub use rules::{prepare_update, validate_create, validate_template, validate_update};

/// Which syntax the names of a resource follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 subdomain, the default.
    Subdomain,
    /// DNS-1123 label: Namespace.
    Label,
    /// DNS-1035 label: Service.
    Dns1035,
    /// Whatever fits into a URL path: RBAC, events.
    PathSegment,
    /// An IP address in canonical form: IPAddress.
    Ip,
}

impl NameRule {
    /// `prefix` is true for a `generateName`, which may end with a dash.
    pub fn check(self, name: &str, prefix: bool) -> names::Faults {
        let masked;
        let name = if prefix && name.len() > 1 && name.ends_with('-') {
            masked = format!("{}a", &name[..name.len() - 1]);
            masked.as_str()
        } else {
            name
        };
        match self {
            Self::Subdomain => names::subdomain(name),
            Self::Label => names::label(name),
            Self::Dns1035 => names::dns1035(name),
            Self::PathSegment => names::path_segment(name),
            Self::Ip => match name.parse::<std::net::IpAddr>() {
                Ok(address) if address.to_string() == name => names::Faults::new(),
                Ok(_) => vec!["must be in canonical form (RFC 5952)".into()],
                Err(_) => names::ip(name),
            },
        }
    }
}
