//! The objects of a request in the version that a webhook's or policy's rules are about, and back.

use std::borrow::Cow;

use k3s_api::decode::{self, FieldValidation};
use k3s_api::schema::{self, Schema};
use k3s_api::status::Status;
use serde_json::Value;

use super::Attributes;
use super::request::Kind;
use super::rules::Match;
use crate::conversion::Conversion;
use crate::registry::Row;
use crate::verbs::input;

/// One version of a request's objects.
pub struct Versions<'a> {
    at: &'a Attributes<'a>,
    /// Another than the request's own.
    other: Option<&'a Row>,
}

impl<'a> Versions<'a> {
    /// The version that the rules have matched.
    pub fn new(at: &'a Attributes<'a>, found: &'a Match) -> Self {
        let other = match found {
            Match::Own => None,
            Match::Equivalent(other) => Some(other),
        };
        Self { at, other }
    }

    /// The resource in that version.
    pub fn row(&self) -> &'a Row {
        self.other.unwrap_or(self.at.resource)
    }

    fn conversion(&self) -> Conversion<'a> {
        Conversion { registry: self.at.registry, relay: self.at.relay }
    }

    /// Scales and their like are the same in all versions of what they belong to.
    fn other(&self) -> Option<&'a Row> {
        self.other.filter(|_| Kind::is_own(self.at.resource, self.at.subresource))
    }

    /// An object of the request as that version shows it.
    ///
    /// # Errors
    /// If it cannot be converted.
    pub async fn shown<'v>(&self, object: &'v Value) -> Result<Cow<'v, Value>, Status> {
        match self.other() {
            Some(other) if !object.is_null() => {
                self.conversion().between(self.at.resource, other, object.clone()).await.map(Cow::Owned)
            }
            _ => Ok(Cow::Borrowed(object)),
        }
    }

    /// An object of that version as the request's own.
    ///
    /// # Errors
    /// If it cannot be converted.
    pub async fn taken(&self, object: Value) -> Result<Value, Status> {
        match self.other() {
            Some(other) => self.conversion().between(other, self.at.resource, object).await,
            None => Ok(object),
        }
    }

    /// The schema of the objects in that version.
    pub fn schema(&self) -> Option<Schema<'a>> {
        if Kind::is_own(self.at.resource, self.at.subresource) {
            return Some(self.row().schema());
        }
        let Kind { group, version, kind } = Kind::of(self.at.resource, self.at.subresource);
        let package = match group {
            "" => "core",
            group => group.split('.').next().unwrap_or(group),
        };
        schema::definition(&format!("io.k8s.api.{package}.{version}.{kind}"))
    }

    /// A changed object of that version, typed, pruned and defaulted.
    ///
    /// # Errors
    /// In words, if it is not of the version any more.
    pub fn decoded(&self, changed: Value) -> Result<Value, String> {
        let Kind { group, version, kind } = match Kind::is_own(self.at.resource, self.at.subresource) {
            true => Kind::of(self.row(), ""),
            false => Kind::of(self.at.resource, self.at.subresource),
        };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        if changed["apiVersion"] != api_version.as_str() || changed["kind"] != kind {
            return Err(format!(
                "the object was changed to another kind: {}, Kind={}",
                changed["apiVersion"], changed["kind"]
            ));
        }
        let Some(schema) = self.schema() else { return Ok(changed) };
        let decoded = decode::decode_value(changed, schema, FieldValidation::Ignore);
        let mut value = decoded.map_err(|error| error.to_string())?.value;
        if Kind::is_own(self.at.resource, self.at.subresource) {
            input::default(self.row(), &mut value);
        }
        Ok(value)
    }
}
