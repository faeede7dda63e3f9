//! The parameters of requests: `ListOptions`, `CreateOptions`, `UpdateOptions`, `PatchOptions`, `DeleteOptions`.

use k3s_api::status::{Cause, Status};
use serde_json::Value;

use crate::request::Query;

/// `FieldValueForbidden` and the like, for the options objects, which have no schema.
fn cause(field: &str, reason: &'static str, message: String) -> Cause {
    Cause { reason: reason.into(), message, field: field.to_owned() }
}

fn forbidden(field: &str, why: &str) -> Cause {
    cause(field, "FieldValueForbidden", format!("Forbidden: {why}"))
}

fn not_supported(field: &str, value: &str, supported: &[&str]) -> Cause {
    let supported = supported.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    cause(field, "FieldValueNotSupported", format!("Unsupported value: {value:?}: supported values: {supported}"))
}

fn invalid(kind: &str, causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", causes)) }
}

fn number<T: std::str::FromStr>(query: &Query, name: &str) -> Result<Option<T>, Status> {
    let parse = |text: &str| {
        text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    };
    query.get(name).filter(|text| !text.is_empty()).map(parse).transpose()
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// What a list or watch asks for.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    pub watch: bool,
    pub label_selector: String,
    pub field_selector: String,
    /// `None`: the newest there is. `Some(0)`: any.
    pub resource_version: Option<u64>,
    pub version_match: Option<VersionMatch>,
    /// 0: all.
    pub limit: usize,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and validates them. `watch` says that the path or the query asks for a watch.
    ///
    /// # Errors
    /// 400 for what can't be read, 422 for what contradicts itself.
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
        let (version, matching) = (text("resourceVersion"), text("resourceVersionMatch"));
        let options = Self {
            watch,
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: None,
            version_match: match matching.as_str() {
                "Exact" => Some(VersionMatch::Exact),
                "NotOlderThan" => Some(VersionMatch::NotOlderThan),
                _ => None,
            },
            limit: number::<i64>(query, "limit")?.and_then(|limit| limit.try_into().ok()).unwrap_or_default(),
            continue_token: text("continue"),
            timeout_seconds: number::<i64>(query, "timeoutSeconds")?.and_then(|seconds| seconds.try_into().ok()),
            allow_bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
        };
        options.validate(&version, &matching)?;
        Ok(Self { resource_version: parse_resource_version(&version)?, ..options })
    }

    fn validate(&self, version: &str, matching: &str) -> Result<(), Status> {
        const FIELD: &str = "resourceVersionMatch";
        let mut causes = Vec::new();
        if self.watch {
            if self.send_initial_events.is_some() && self.version_match != Some(VersionMatch::NotOlderThan) {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                causes.push(forbidden(FIELD, why));
            }
            if !matching.is_empty() {
                if self.send_initial_events.is_none() {
                    let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                    causes.push(forbidden(FIELD, why));
                }
                if self.version_match != Some(VersionMatch::NotOlderThan) {
                    causes.push(not_supported(FIELD, matching, &["NotOlderThan"]));
                }
                if !self.continue_token.is_empty() {
                    causes.push(forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
                }
            }
        } else {
            if !matching.is_empty() {
                if version.is_empty() {
                    let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                    causes.push(forbidden(FIELD, why));
                }
                if !self.continue_token.is_empty() {
                    causes.push(forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
                }
                if self.version_match.is_none() {
                    causes.push(not_supported(FIELD, matching, &["Exact", "NotOlderThan", ""]));
                }
                if self.version_match == Some(VersionMatch::Exact) && version == "0" {
                    let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                    causes.push(forbidden(FIELD, why));
                }
            }
            if self.send_initial_events.is_some() {
                causes.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
            }
        }
        invalid("ListOptions", causes)
    }
}

/// `resourceVersion` of a read: `None` if it is not given.
///
/// # Errors
/// 400 if it is no number.
pub fn parse_resource_version(text: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let syntax = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Status::bad_request(format!("invalid resource version: resourceVersion: Invalid value: {text:?}: {syntax}"))
    })
}

/// `fieldValidation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// What a create, update or patch asks for beside its body.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// Empty: named after the client.
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// Apply only: take fields from other managers.
    pub force: bool,
}

/// The kinds of options objects of writes, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind {
    Create,
    Update,
    Patch,
    /// A patch by server-side apply.
    Apply,
}

impl WriteOptions {
    /// Reads and validates them.
    ///
    /// # Errors
    /// 422, naming the options object.
    pub fn parse(query: &Query, kind: WriteKind) -> Result<Self, Status> {
        let mut causes = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut causes);
        let manager = query.get("fieldManager").unwrap_or_default();
        if kind == WriteKind::Apply && manager.is_empty() {
            let message = "Required value: is required for apply patch".to_owned();
            causes.push(cause("fieldManager", "FieldValueRequired", message));
        }
        if manager.len() > 128 {
            let message = "Too long: may not be more than 128 bytes".to_owned();
            causes.push(cause("fieldManager", "FieldValueTooLong", message));
        }
        if let Some(bad) = manager.chars().find(|c| c.is_control()) {
            let message = format!("Invalid value: {manager:?}: should not contain unprintable character {bad:?}");
            causes.push(cause("fieldManager", "FieldValueInvalid", message));
        }
        let force = query.get("force").map(|_| query.flag("force"));
        if force.is_some() && kind == WriteKind::Patch {
            causes.push(forbidden("force", "may not be specified for non-apply patch"));
        }
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "Ignore" => FieldValidation::Ignore,
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            other => {
                causes.push(not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        let object = match kind {
            WriteKind::Create => "CreateOptions",
            WriteKind::Update => "UpdateOptions",
            WriteKind::Patch | WriteKind::Apply => "PatchOptions",
        };
        invalid(object, causes)?;
        Ok(Self { dry_run, field_manager: manager.to_owned(), field_validation, force: force.unwrap_or_default() })
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, causes: &mut Vec<Cause>) -> bool {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|value| *value != "All") {
        let message = format!("Unsupported value: {values:?}: supported values: \"All\"");
        causes.push(cause("dryRun", "FieldValueNotSupported", message));
    }
    !values.is_empty()
}

/// `propagationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Foreground,
    Background,
    Orphan,
}

/// What a delete asks for, from the query or the body.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    /// `preconditions.uid`
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads and validates the query and the `DeleteOptions` in the body (null: there is none), which come first.
    ///
    /// # Errors
    /// 400 for a number that is none, 422 for values that contradict each other.
    pub fn parse(query: &Query, body: &Value) -> Result<Self, Status> {
        let mut causes = Vec::new();
        let from_body: Vec<&str> =
            body.get("dryRun").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let dry_run = if body.is_null() {
            dry_run(query.all("dryRun"), &mut causes)
        } else {
            dry_run(from_body.into_iter(), &mut causes)
        };
        let text = |name: &str| match body {
            Value::Null => query.get(name).map(str::to_owned),
            body => body.get(name).and_then(Value::as_str).map(str::to_owned),
        };
        let grace_period_seconds = match body {
            Value::Null => number(query, "gracePeriodSeconds")?,
            body => body.get("gracePeriodSeconds").and_then(Value::as_i64),
        };
        let orphan = match body {
            Value::Null => query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
            body => body.get("orphanDependents").and_then(Value::as_bool),
        };
        let policy = text("propagationPolicy");
        if let (Some(policy), Some(_)) = (&policy, orphan) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            causes.push(cause("propagationPolicy", "FieldValueInvalid", format!("Invalid value: {policy:?}: {why}")));
        }
        let propagation = match policy.as_deref() {
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            None => orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                causes.push(not_supported("propagationPolicy", other, &supported));
                None
            }
        };
        invalid("DeleteOptions", causes)?;
        let precondition =
            |name: &str| body.get("preconditions").and_then(|p| p.get(name)).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            dry_run,
            grace_period_seconds,
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(query: &str, watch: bool) -> Result<ListOptions, Status> {
        ListOptions::parse(&Query::parse(query), watch)
    }

    #[test]
    fn contradictions_of_a_list_are_refused() {
        for (query, message) in [
            ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ("resourceVersionMatch=Exact&resourceVersion=0", "is forbidden for resourceVersion \"0\""),
            ("resourceVersionMatch=X&resourceVersion=1", "supported values: \"Exact\", \"NotOlderThan\", \"\""),
            ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
            ("limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("resourceVersion=abc", "strconv.ParseUint: parsing \"abc\": invalid syntax"),
        ] {
            let error = list(query, false).expect_err(query);
            assert!(error.message.contains(message), "{query}: {}", error.message);
        }
        assert_eq!(list("limit=-1", false).expect("all of them").limit, 0);
    }

    #[test]
    fn streaming_lists_need_their_match() {
        assert!(list("sendInitialEvents=true", true).is_err());
        let options = list("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true).expect("valid");
        assert_eq!(options.send_initial_events, Some(true));
    }

    #[test]
    fn deletes_read_body_or_query() {
        let query = Query::parse("gracePeriodSeconds=5&propagationPolicy=Orphan");
        let options = DeleteOptions::parse(&query, &Value::Null).expect("valid");
        assert_eq!((options.grace_period_seconds, options.propagation), (Some(5), Some(Propagation::Orphan)));
        let body = json!({"preconditions": {"uid": "u"}, "orphanDependents": false});
        let options = DeleteOptions::parse(&Query::default(), &body).expect("valid");
        assert_eq!((options.uid.as_deref(), options.propagation), (Some("u"), Some(Propagation::Background)));
        let both = json!({"orphanDependents": true, "propagationPolicy": "Orphan"});
        assert!(DeleteOptions::parse(&Query::default(), &both).is_err());
    }
}
