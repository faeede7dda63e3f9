//! Values that only functions look into.

use std::net::IpAddr;

use ipnet::IpNet;
use semver::Version;

use super::authorizer::{Answer, Question};
use super::format::Format;
use super::url::Url;
use crate::quantity::Quantity;

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Opaque {
    Quantity(Quantity),
    Ip(IpAddr),
    /// A network, with the address it was written with.
    Cidr(IpNet),
    Url(Url),
    Semver(Version),
    Format(Format),
    /// The one who is asked; with the user if it is another than who makes the request.
    Authorizer(Question),
    PathCheck(Question),
    GroupCheck(Question),
    ResourceCheck(Question),
    Decision(Answer),
}

impl Opaque {
    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Its form as text, if it has one.
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Self::Quantity(value) => value.to_string(),
            Self::Ip(value) => value.to_string(),
            Self::Cidr(value) => value.to_string(),
            Self::Url(value) => value.text.clone(),
            Self::Semver(value) => value.to_string(),
            _ => return None,
        })
    }
}
