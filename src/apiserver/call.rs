//! One request for a resource, on its way through the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use k3s_api::authentication::UserInfo;
use k3s_api::object;
use k3s_api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::admission::{Attributes, Operation};
use crate::audit::Record;
use crate::conversion::Conversion;
use crate::negotiate::Accept;
use crate::registry::{Entry, Registry, Row};
use crate::request::{Query, RequestInfo};
use crate::{ApiServer, Body, encode};

/// A request for a resource: what is asked, by whom, and how the answer shall look.
pub(crate) struct Call {
    pub server: ApiServer,
    pub info: RequestInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub user: UserInfo,
    pub row: Row,
    pub accept: Accept,
    /// What the client shall be told beside the answer, as `Warning` headers.
    pub warnings: Mutex<Vec<String>>,
    /// What admission says for the audit log: keys with their values.
    pub audit_annotations: Mutex<BTreeMap<String, String>>,
    /// What the audit log is told.
    pub audit: Option<Arc<Record>>,
}

impl Call {
    pub fn registry(&self) -> &Registry {
        self.server.registry()
    }

    /// The namespace of the object: empty for cluster-scoped resources (whose name Kubernetes takes for the namespace
    /// of a namespace).
    pub fn namespace(&self) -> &str {
        if self.row.namespaced { &self.info.namespace } else { "" }
    }

    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// 404 for the object asked for.
    pub fn not_found(&self) -> Status {
        self.not_found_name(&self.info.name)
    }

    pub fn not_found_name(&self, name: &str) -> Status {
        Status::not_found(&self.row.group, &self.row.plural, name)
    }

    /// What admission is told.
    pub fn attributes<'a>(&'a self, operation: Operation, name: &'a str, dry_run: bool) -> Attributes<'a> {
        Attributes {
            registry: self.registry(),
            relay: self.server.relay(),
            operation,
            resource: &self.row,
            subresource: &self.info.subresource,
            namespace: self.namespace(),
            name,
            user: &self.user,
            dry_run,
            query: Some(&self.query),
            delete_options: None,
            warnings: &self.warnings,
            audit_annotations: &self.audit_annotations,
            authorizer: self.server.authorizer(),
            reinvocation: Mutex::default(),
        }
    }

    /// What turns stored objects into those of the request's version.
    pub fn conversion(&self) -> Conversion<'_> {
        Conversion { registry: self.registry(), relay: self.server.relay() }
    }

    /// A stored object in the request's version.
    pub async fn read(&self, entry: &Arc<Entry>) -> Result<Arc<Value>, Status> {
        self.conversion().read(&self.row, entry).await
    }

    /// An object of the request's version, encoded as it is stored.
    pub async fn encode(&self, value: &Value) -> Result<Vec<u8>, Status> {
        Ok(object::encode(&*self.conversion().to_stored(&self.row, value).await?))
    }

    /// An answer with a stored object.
    pub async fn entry(&self, code: StatusCode, entry: &Arc<Entry>) -> Result<Response<Body>, Status> {
        let entry = self.conversion().entry(&self.row, Arc::clone(entry)).await?;
        encode::entry(self, code, &entry)
    }

    /// An answer with an object that is not stored as it is.
    pub fn value(&self, code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
        encode::value(self, code, value)
    }
}
