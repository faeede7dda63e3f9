//! Who manages which field: `metadata.managedFields`.

use k3s_api::status::Status;
use serde_json::Value;

use crate::call::Call;
use crate::options::WriteOptions;

/// Notes in `new` what the client of a create, update or patch has set.
pub(crate) fn track(call: &Call, options: &WriteOptions, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    let _ = (call, options, old, new);
    Ok(())
}

/// The object with the applied configuration merged into it, and the fields noted.
pub(crate) fn apply(
    call: &Call,
    options: &WriteOptions,
    old: Option<&Value>,
    configuration: &Value,
) -> Result<Value, Status> {
    let _ = (call, options, old, configuration);
    Err(Status::unsupported_media_type(&["application/json-patch+json"]))
}
