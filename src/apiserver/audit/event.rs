//! `audit.k8s.io/v1` `Event`: what is written of a request at one of its stages.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderMap;
use jiff::Timestamp;
use k3s_api::authentication::UserInfo;
use serde::Serialize;
use serde_json::Value;

use super::policy::{Level, Stage};
use crate::request::RequestInfo;

/// An event, its fields in Kubernetes' order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    kind: &'static str,
    api_version: &'static str,
    pub level: Level,
    #[serde(rename = "auditID")]
    pub audit_id: String,
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: &'static str,
    user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    #[serde(serialize_with = "micros")]
    request_received_timestamp: Timestamp,
    #[serde(serialize_with = "micros")]
    pub stage_timestamp: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How the user came to be who he is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationMetadata {
    impersonation_constraint: &'static str,
}

#[derive(Debug, Clone, Default, Serialize)]
struct User {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&UserInfo> for User {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// What a request is about.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

fn micros<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
}

impl Event {
    /// Of a request that has just come.
    pub fn new(
        audit_id: String,
        level: Level,
        uri: &http::Uri,
        headers: &HeaderMap,
        remote: Option<IpAddr>,
        info: &RequestInfo,
    ) -> Self {
        let now = Timestamp::now();
        let object_ref = info.is_resource.then(|| ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectReference::default()
        });
        let agent = headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id,
            stage: Stage::RequestReceived,
            request_uri: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            verb: info.verb,
            user: User::default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(headers, remote),
            user_agent: truncated(agent, MAX_USER_AGENT),
            object_ref,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now,
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        }
    }

    /// Who asks, as whom, and by which verb of constrained impersonation.
    pub fn set_user(&mut self, user: &UserInfo, impersonated: Option<&UserInfo>, constraint: Option<&'static str>) {
        self.authentication_metadata = constraint.map(|verb| AuthenticationMetadata { impersonation_constraint: verb });
        self.user = user.into();
        self.impersonated_user = impersonated.map(User::from);
    }

    /// Without the objects of request and answer, which it says.
    pub fn without_objects(&self) -> Self {
        let mut event = Self { request_object: None, response_object: None, ..self.clone() };
        event.annotations.insert("audit.k8s.io/truncated".to_owned(), "true".to_owned());
        event
    }

    /// One line, without its end.
    pub fn json(&self) -> Vec<u8> {
        // There is nothing in it that JSON can't say.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `--audit-log-format=legacy`: a line of text with the metadata.
    pub fn legacy(&self) -> Vec<u8> {
        let quoted = |groups: &[String]| match groups {
            [] => "\"<none>\"".to_owned(),
            groups => groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(","),
        };
        let (acting_as, of_groups) = match &self.impersonated_user {
            Some(user) => (user.username.as_str(), quoted(&user.groups)),
            None => ("<self>", "\"<lookup>\"".to_owned()),
        };
        let namespace = self.object_ref.as_ref().map(|object| object.namespace.as_str()).unwrap_or_default();
        let response = self.response_status.as_ref().and_then(|status| status["code"].as_u64());
        format!(
            "{} AUDIT: id=\"{}\" stage=\"{:?}\" ip=\"{}\" method=\"{}\" user={:?} groups={} as={:?} asgroups={} \
             user-agent={:?} namespace={:?} uri={:?} response=\"{}\"",
            self.stage_timestamp.strftime("%Y-%m-%dT%H:%M:%S.%9fZ"),
            self.audit_id,
            self.stage,
            self.source_ips.first().map_or("<unknown>", String::as_str),
            self.verb,
            if self.user.username.is_empty() { "<none>" } else { &self.user.username },
            quoted(&self.user.groups),
            acting_as,
            of_groups,
            self.user_agent,
            if namespace.is_empty() { "<none>" } else { namespace },
            self.request_uri,
            response.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string()),
        )
        .into_bytes()
    }
}

const MAX_USER_AGENT: usize = 1024;

fn truncated(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...TRUNCATED", &text[..end]),
        None => text.to_owned(),
    }
}

/// Where the request comes from: what proxies say, then who is connected. Requests within the process come from here.
fn source_ips(headers: &HeaderMap, remote: Option<IpAddr>) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok();
    let mut ips: Vec<IpAddr> = text("x-forwarded-for").split(',').filter_map(parse).collect();
    ips.extend(parse(text("x-real-ip")).filter(|ip| !ips.contains(ip)));
    let remote = remote.unwrap_or(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)).to_canonical();
    if ips.last() != Some(&remote) {
        ips.push(remote);
    }
    ips.iter().map(ToString::to_string).collect()
}
