//! A kubelet changes its own node, its own lease and the pods bound to it, and nothing else of these. What the Node
//! authorizer cannot tell without the object is told here
//! (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>).

mod certificate;
mod claim;
mod node;
mod pod;
mod token;

use async_trait::async_trait;
use k3s_api::object::{self, text};
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::authorization::node::name as node_name;

pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    async fn admit(&self, at: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(node) = node_name(at.user) else { return Ok(()) };
        let request = Request { at, node, object, old };
        if node.is_empty() {
            return request.refuse(format!("could not determine node from user {:?}", at.user.name));
        }
        match (at.resource.group.as_ref(), at.resource.plural.as_ref()) {
            ("", "pods") => pod::admit(&request).await,
            ("", "nodes") => node::admit(&request),
            ("", "persistentvolumeclaims") => claim::admit(&request),
            ("", "serviceaccounts") => token::admit(&request).await,
            ("coordination.k8s.io", "leases") => request.own_lease(),
            ("storage.k8s.io", "csinodes") if request.name() != node => {
                request.refuse("can only access CSINode with the same name as the requesting node")
            }
            ("resource.k8s.io", "resourceslices") => request.own_slice(),
            ("certificates.k8s.io", "certificatesigningrequests") => certificate::admit(&request),
            _ => Ok(()),
        }
    }
}

/// What a kubelet wants to do.
struct Request<'a> {
    at: &'a Attributes<'a>,
    /// The node it is of.
    node: &'a str,
    /// As it shall be; null for a delete.
    object: &'a Value,
    old: Option<&'a Value>,
}

impl Request<'_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Result<(), Status> {
        Err(self.at.forbidden(self.object, why))
    }

    /// Of the object: that of a new one is only in itself.
    fn name(&self) -> &str {
        [self.at.name, object::name(self.object)].into_iter().find(|name| !name.is_empty()).unwrap_or_default()
    }

    fn own_lease(&self) -> Result<(), Status> {
        if self.at.namespace != "kube-node-lease" {
            return self.refuse("can only access leases in the \"kube-node-lease\" system namespace");
        }
        if self.name() != self.node {
            return self.refuse("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    /// Updates have been checked by what is stored; of deletes, those of a whole collection have not.
    fn own_slice(&self) -> Result<(), Status> {
        let (what, slice) = match self.at.operation {
            Operation::Create => ("create", Some(self.object)),
            Operation::Delete => ("delete", self.old),
            Operation::Update | Operation::Connect => return Ok(()),
        };
        if slice.and_then(|slice| text(slice, &["spec", "nodeName"])) != Some(self.node) {
            let why = format!("can only {what} ResourceSlice with the same NodeName as the requesting node");
            return self.refuse(why);
        }
        Ok(())
    }
}
