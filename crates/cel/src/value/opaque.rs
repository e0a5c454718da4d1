//! Values that only functions look into.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::{
    authorizer::{Attributes, Authorizer, Decision},
    library::{formats::Format, quantity::Quantity, semver::Semver, url::Url},
};

/// A value that only functions look into.
#[derive(Clone, Debug)]
pub enum Opaque<'a> {
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Quantity),
    Semver(Arc<Semver>),
    Format(&'static Format),
    /// Asked for whoever makes the request, or for the service account in `user`.
    Authorizer(Authority<'a>),
    PathCheck(Authority<'a>),
    GroupCheck(Authority<'a>),
    ResourceCheck(Authority<'a>),
    Decision(Arc<Decision>),
}

/// Whom to ask, and what has been said so far about what is to be allowed.
#[derive(Clone)]
pub struct Authority<'a> {
    pub authorizer: &'a dyn Authorizer,
    pub attributes: Arc<Attributes>,
}

impl fmt::Debug for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.attributes.fmt(f)
    }
}

/// A range of addresses as it was written: the bits after the prefix may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Opaque<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Opaque::Url(_) => "kubernetes.URL",
            Opaque::Ip(_) => "net.IP",
            Opaque::Cidr(_) => "net.CIDR",
            Opaque::Quantity(_) => "kubernetes.Quantity",
            Opaque::Semver(_) => "kubernetes.Semver",
            Opaque::Format(_) => "kubernetes.NamedFormat",
            Opaque::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Opaque::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Opaque::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Opaque::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Opaque::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Addresses are as big as their bytes, and so is what lies in a prefix.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Opaque::Ip(IpAddr::V4(_)) => 4,
            Opaque::Ip(IpAddr::V6(_)) => 16,
            Opaque::Cidr(cidr) => u64::from(cidr.prefix.div_ceil(8)),
            _ => 1,
        }
    }

    pub(crate) fn equals(&self, other: &Opaque<'_>) -> bool {
        match (self, other) {
            (Opaque::Url(a), Opaque::Url(b)) => a == b,
            (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
            (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
            (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
            (Opaque::Semver(a), Opaque::Semver(b)) => a.compare(b).is_eq(),
            (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
            (Opaque::Decision(a), Opaque::Decision(b)) => a == b,
            // Authorizers are the same where they ask the same.
            (a, b) => match (a.authority(), b.authority()) {
                (Some(one), Some(other)) => a.name() == b.name() && one.attributes == other.attributes,
                _ => false,
            },
        }
    }

    pub(crate) fn authority(&self) -> Option<&Authority<'_>> {
        match self {
            Opaque::Authorizer(one) | Opaque::PathCheck(one) | Opaque::GroupCheck(one) | Opaque::ResourceCheck(one) => {
                Some(one)
            }
            _ => None,
        }
    }
}
