//! Objects in another version than the one they are stored in.
//!
//! Built-in kinds are converted in place ([`k3s_api::conversion`]); versions of a custom resource differ in their
//! `apiVersion` alone, or a webhook converts them. What is served as it is stored passes through untouched.

mod memo;
mod review;
pub(crate) mod webhook;

use std::borrow::Cow;
use std::sync::Arc;

use k3s_api::decode::{self, FieldValidation};
use k3s_api::resource::Resource;
use k3s_api::status::Status;
use serde_json::Value;

use crate::registry::{Custom, Entry, Registry, Row, convert};
use crate::relay::Relay;
use crate::verbs::input;

/// Objects that a webhook is given at a time.
const BATCH: usize = 500;

/// What converting takes.
#[derive(Clone, Copy)]
pub(crate) struct Conversion<'a> {
    pub registry: &'a Registry,
    pub relay: &'a Relay,
}

impl Conversion<'_> {
    /// The stored object as the row's version shows it.
    ///
    /// # Errors
    /// If it is damaged, or its webhook fails.
    pub async fn read(&self, row: &Row, entry: &Arc<Entry>) -> Result<Arc<Value>, Status> {
        let shown = self.entry(row, Arc::clone(entry)).await?;
        Ok(convert::read(row, &shown)?)
    }

    /// The entry of a custom resource in the row's version; of a built-in one, as it is.
    ///
    /// # Errors
    /// If it is damaged, or its webhook fails.
    pub async fn entry(&self, row: &Row, entry: Arc<Entry>) -> Result<Arc<Entry>, Status> {
        if is_served(row, &entry) {
            return Ok(entry);
        }
        let mut entries = vec![entry];
        self.convert_entries(row, &mut entries).await?;
        entries.pop().ok_or_else(|| Status::internal("a conversion has lost its object"))
    }

    /// As [`Conversion::entry`], of many.
    ///
    /// # Errors
    /// If one is damaged, or the webhook fails.
    pub async fn entries(&self, row: &Row, mut entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
        // Of built-in resources there is nothing to look at.
        if matches!(row, Row::Custom(_)) && !entries.iter().all(|entry| is_served(row, entry)) {
            self.convert_entries(row, &mut entries).await?;
        }
        Ok(entries)
    }

    async fn convert_entries(&self, row: &Row, entries: &mut [Arc<Entry>]) -> Result<(), Status> {
        let Row::Custom(custom) = row else { return Ok(()) };
        let wanted = row.api_version();
        let memo = custom.conversion.as_ref().map(|webhook| webhook.memo());
        let mut open: Vec<usize> = Vec::new();
        for (index, entry) in entries.iter_mut().enumerate() {
            if is_served(row, entry) {
                continue;
            }
            match memo.and_then(|memo| memo.get(entry, &wanted)) {
                Some(known) => *entry = known,
                None => open.push(index),
            }
        }
        for chunk in open.chunks(BATCH) {
            let mut values = Vec::with_capacity(chunk.len());
            for index in chunk {
                values.push((*entries[*index].value()?).clone());
            }
            let converted = self.convert(custom, values, &wanted).await?;
            for (index, value) in chunk.iter().zip(converted) {
                let value = shaped(&custom.resource, value)?;
                let entry = &entries[*index];
                let shown = Arc::new(Entry::of_value(Arc::clone(entry.key()), entry.revision(), &value)?);
                if let Some(memo) = memo {
                    memo.keep(&wanted, &shown);
                }
                entries[*index] = shown;
            }
        }
        Ok(())
    }

    /// The object of the row's version as it is stored.
    ///
    /// # Errors
    /// If its webhook fails.
    pub async fn to_stored<'v>(self, row: &Row, value: &'v Value) -> Result<Cow<'v, Value>, Status> {
        let Row::Custom(custom) = row else { return Ok(convert::to_stored(row, value)) };
        if row.is_storage_version() {
            return Ok(Cow::Borrowed(value));
        }
        let wanted = format!("{}/{}", row.storage_group, row.storage_version);
        let mut converted = self.convert(custom, vec![value.clone()], &wanted).await?;
        let value = converted.pop().unwrap_or_default();
        // The version that is stored need not be served.
        match self.registry.find(&row.group, &row.storage_version, &row.plural) {
            Some(stored) => shaped(&stored, value).map(Cow::Owned),
            None => Ok(Cow::Owned(value)),
        }
    }

    /// An object of one version of a resource in another.
    ///
    /// # Errors
    /// If its webhook fails.
    pub async fn between(&self, from: &Row, to: &Row, value: Value) -> Result<Value, Status> {
        let Row::Custom(custom) = from else {
            let mut value = convert::to_stored(from, &value).into_owned();
            k3s_api::conversion::from_stored(to, &mut value);
            return Ok(value);
        };
        let mut converted = self.convert(custom, vec![value], &to.api_version()).await?;
        shaped(to, converted.pop().unwrap_or_default())
    }

    async fn convert(&self, custom: &Custom, mut values: Vec<Value>, wanted: &str) -> Result<Vec<Value>, Status> {
        match &custom.conversion {
            Some(webhook) => webhook.convert(*self, values, wanted).await.map_err(Status::plain),
            None => {
                values.iter_mut().for_each(|value| value["apiVersion"] = wanted.into());
                Ok(values)
            }
        }
    }
}

/// Whether the entry is in the version that the row serves. Built-in ones are converted where they are read.
fn is_served(row: &Row, entry: &Entry) -> bool {
    match row {
        Row::Builtin(_) => true,
        Row::Custom(_) => entry.is_of(&row.group, &row.version),
    }
}

/// What came out of a conversion, with what the version's schema does not have left out and its defaults filled in.
fn shaped(row: &Resource, value: Value) -> Result<Value, Status> {
    let decoded = decode::decode_value(value, row.schema(), FieldValidation::Ignore);
    let mut value = decoded.map_err(|error| Status::plain(error.to_string()))?.value;
    input::default(row, &mut value);
    Ok(value)
}
