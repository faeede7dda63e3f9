//! One webhook, as its configuration says.

use std::time::Duration;

use k3s_api::admission_policy::Condition;
use k3s_api::admission_policy::conditions;
use k3s_api::object::text;
use k3s_api::validation::Path;
use serde_json::Value;

use crate::admission::rules::Matching;
use crate::relay::review_version::ReviewVersion;
use crate::relay::webhook::Client;

/// A webhook, ready to be called.
pub struct Hook {
    /// As messages name it.
    pub name: String,
    /// It and no other of its kind: its configuration's name and its place therein.
    pub id: String,
    pub matching: Matching,
    /// What must hold for it to be called, or why that cannot be told.
    pub conditions: Result<Vec<Condition>, String>,
    /// Whether a request is refused when it cannot be called (`failurePolicy`).
    pub must_answer: bool,
    pub timeout: Duration,
    /// Whether it may be called in a dry run (`sideEffects`).
    pub dry_run: bool,
    /// Whether it wants to be called again when others have changed the object (`reinvocationPolicy`).
    pub reinvoked: bool,
    /// The newest form of reviews that it reads and this server writes; None if there is none.
    pub version: Option<ReviewVersion>,
    pub client: Client,
}

impl Hook {
    /// The name of its configuration.
    pub fn configuration(&self) -> &str {
        self.id.rsplit_once('/').map_or("", |(configuration, _)| configuration)
    }

    /// Of an element of a configuration's `webhooks`.
    pub fn read(configuration: &str, index: usize, hook: &Value) -> Self {
        let word = |name: &str| text(hook, &[name]).unwrap_or_default();
        let mut errors = Vec::new();
        let environment = conditions::webhook_environment();
        let compiled = conditions::compile(hook, &Path::new("webhook"), &environment, &mut errors);
        let versions = hook["admissionReviewVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Self {
            name: word("name").to_owned(),
            id: format!("{configuration}/{index}"),
            matching: Matching::of_webhook(hook),
            // They were checked when they were written; another version of this server may have been laxer.
            conditions: errors.first().map_or(Ok(compiled), |error| Err(error.to_string())),
            must_answer: word("failurePolicy") != "Ignore",
            timeout: Duration::from_secs(hook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
            dry_run: matches!(word("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: word("reinvocationPolicy") == "IfNeeded",
            version: versions.filter_map(ReviewVersion::parse).next(),
            client: Client::new(&hook["clientConfig"]),
        }
    }
}
