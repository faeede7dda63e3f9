//! No one gets a certificate for `system:masters` from the signer of API clients.

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k3s_api::object::text;
use k3s_api::status::Status;
use serde_json::Value;
use x509_parser::prelude::{FromDer, Pem, X509CertificationRequest, X509Name};

use super::{Attributes, Operation, Plugin};

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    async fn validate(&self, at: &Attributes<'_>, request: &Value, _: Option<&Value>) -> Result<(), Status> {
        if at.is("certificates.k8s.io", "certificatesigningrequests")
            && at.operation == Operation::Create
            && text(request, &["spec", "signerName"]) == Some("kubernetes.io/kube-apiserver-client")
            && text(request, &["spec", "request"]).is_some_and(asks_for_masters)
        {
            let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
            return Err(at.forbidden(request, why));
        }
        Ok(())
    }
}

/// Whether the PEM certificate request in base64 names the group `system:masters`. What can't be read is refused by
/// validation.
fn asks_for_masters(encoded: &str) -> bool {
    subject_of(encoded, |subject| subject.iter_organization().any(|group| group.as_str() == Ok("system:masters")))
        .unwrap_or_default()
}

/// The common name of a PEM certificate request in base64; empty if it has none. None if it can't be read.
pub(super) fn common_name(encoded: &str) -> Option<String> {
    subject_of(encoded, |subject| {
        subject.iter_common_name().find_map(|name| name.as_str().ok()).unwrap_or_default().to_owned()
    })
}

fn subject_of<T>(encoded: &str, look: impl Fn(&X509Name<'_>) -> T) -> Option<T> {
    let pem = BASE64_STANDARD.decode(encoded).ok()?;
    Pem::iter_from_buffer(&pem).flatten().find_map(|pem| {
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        Some(look(&request.certification_request_info.subject))
    })
}
