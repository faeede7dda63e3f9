//! No one gets a certificate for `system:masters` from the signer of API clients.

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k3s_api::object::text;
use k3s_api::status::Status;
use serde_json::Value;
use x509_parser::prelude::{FromDer, Pem, X509CertificationRequest};

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
    let Ok(pem) = BASE64_STANDARD.decode(encoded) else { return false };
    Pem::iter_from_buffer(&pem).flatten().any(|pem| {
        X509CertificationRequest::from_der(&pem.contents).is_ok_and(|(_, request)| {
            let subject = &request.certification_request_info.subject;
            subject.iter_organization().any(|group| group.as_str() == Ok("system:masters"))
        })
    })
}
