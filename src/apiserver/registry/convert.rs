//! Objects of built-in kinds as another version than the stored one.

use std::borrow::Cow;
use std::sync::Arc;

use k3s_api::conversion;
use k3s_api::resource::Resource;
use serde_json::Value;

use super::{Entry, Error};

/// Whether the row's entries are sent as they are: those of custom resources have been converted before (see
/// [`crate::conversion`]).
pub(crate) fn is_plain(row: &Resource) -> bool {
    row.is_storage_version() || row.custom().is_some()
}

/// The object as the row's version shows it.
pub(crate) fn read(row: &Resource, entry: &Entry) -> Result<Arc<Value>, Error> {
    let stored = entry.value()?;
    if is_plain(row) {
        return Ok(stored);
    }
    let mut value = (*stored).clone();
    conversion::from_stored(row, &mut value);
    Ok(Arc::new(value))
}

/// The object of a built-in row's version as it is stored.
pub(crate) fn to_stored<'a>(row: &Resource, value: &'a Value) -> Cow<'a, Value> {
    if row.is_storage_version() {
        return Cow::Borrowed(value);
    }
    let mut value = value.clone();
    conversion::to_stored(row, &mut value);
    Cow::Owned(value)
}
