//! Objects as another version than the stored one.

use std::borrow::Cow;
use std::sync::Arc;

use k3s_api::conversion;
use k3s_api::resource::Resource;
use serde_json::Value;

use super::{Entry, Error};

/// The object as the row's version shows it.
pub(crate) fn read(row: &Resource, entry: &Entry) -> Result<Arc<Value>, Error> {
    let stored = entry.value()?;
    if row.is_storage_version() {
        return Ok(stored);
    }
    let mut value = (*stored).clone();
    conversion::from_stored(row, &mut value);
    Ok(Arc::new(value))
}

/// The object of the row's version as it is stored.
pub(crate) fn to_stored<'a>(row: &Resource, value: &'a Value) -> Cow<'a, Value> {
    if row.is_storage_version() {
        return Cow::Borrowed(value);
    }
    let mut value = value.clone();
    conversion::to_stored(row, &mut value);
    let version = match &*row.storage_group {
        "" => row.storage_version.to_string(),
        group => format!("{group}/{}", row.storage_version),
    };
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), version.into());
    }
    Cow::Owned(value)
}
