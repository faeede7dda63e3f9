//! A kubelet asks for certificates in its own name only.

use k3s_api::object::text;
use k3s_api::status::Status;

use super::Request;
use crate::admission::{Operation, certificates};

pub(super) fn admit(request: &Request<'_>) -> Result<(), Status> {
    let signer = text(request.object, &["spec", "signerName"]).unwrap_or_default();
    let is_for_nodes =
        matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet");
    if request.at.operation != Operation::Create || !is_for_nodes {
        return Ok(());
    }
    let expected = format!("system:node:{}", request.node);
    let encoded = text(request.object, &["spec", "request"]).unwrap_or_default();
    match certificates::common_name(encoded) {
        Some(name) if name == expected => Ok(()),
        Some(_) => request.refuse(format!("can only create a node CSR with CN={expected}")),
        None => request.refuse("unable to parse csr: PEM block type must be CERTIFICATE REQUEST"),
    }
}
