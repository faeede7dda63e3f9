//! The webhook that converts a definition's objects (`spec.conversion`).

use std::time::Duration;

use k3s_api::object;
use serde_json::Value;

use super::Conversion;
use super::memo::Memo;
use super::review;
use crate::relay::review_version::ReviewVersion;
use crate::relay::webhook::Client;

/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A conversion webhook, ready to be called.
pub(crate) struct ConversionWebhook {
    client: Client,
    /// None: it reads no form of reviews that this server writes.
    version: Option<ReviewVersion>,
    memo: Memo,
}

impl std::fmt::Debug for ConversionWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConversionWebhook").field("version", &self.version).finish_non_exhaustive()
    }
}

impl ConversionWebhook {
    /// Of a definition, if a webhook converts its objects.
    pub fn of(definition: &Value) -> Option<Self> {
        let conversion = object::at(definition, &["spec", "conversion"])?;
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            client: Client::new(&webhook["clientConfig"]),
            version: versions.filter_map(ReviewVersion::parse).next(),
            memo: Memo::default(),
        })
    }

    /// What it has converted of late.
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// Objects in the version `wanted` (`group/version`), in the same order. Those that are in it stay as they are.
    ///
    /// # Errors
    /// In Kubernetes' words, if the webhook cannot be asked or its answer is none.
    pub async fn convert(
        &self,
        with: Conversion<'_>,
        mut values: Vec<Value>,
        wanted: &str,
    ) -> Result<Vec<Value>, String> {
        let open: Vec<usize> = (0..values.len()).filter(|index| values[*index]["apiVersion"] != wanted).collect();
        let Some(first) = open.first().map(|index| &values[*index]) else { return Ok(values) };
        let of = format!("{}, Kind={}", object::api_version(first), object::kind(first));
        let failed = |why: String| format!("conversion webhook for {of} failed: {why}");
        let version = self.version.ok_or_else(|| {
            failed("webhook does not accept known ConversionReview versions (v1beta1, v1)".to_owned())
        })?;
        let uid = object::new_uid();
        let asked = review::ask(version, &uid, wanted, open.iter().map(|index| values[*index].clone()).collect());
        let answer = self.client.post(with.relay, with.registry, &asked, TIMEOUT).await.map_err(failed)?;
        let converted = review::read(answer, version, &uid).map_err(failed)?;
        if converted.len() != open.len() {
            let (got, expected) = (converted.len(), open.len());
            return Err(format!("conversion webhook for {of} returned {got} objects, expected {expected}"));
        }
        for (place, (index, new)) in open.iter().zip(converted).enumerate() {
            let old = &values[*index];
            let wrong = review::difference(old, &new, wanted);
            if let Some(wrong) = wrong {
                return Err(format!(
                    "conversion webhook for {of} returned invalid converted object at index {place}: {wrong}"
                ));
            }
            values[*index] = review::with_metadata_of(old, new);
        }
        Ok(values)
    }
}
