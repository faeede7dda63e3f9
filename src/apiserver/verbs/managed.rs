//! Who manages which field: `metadata.managedFields` of every write.

use http::header::USER_AGENT;
use jiff::Timestamp;
use k3s_api::apply::{Set, Writer, manager_name, reset_fields};
use k3s_api::decode::{self, FieldValidation};
use k3s_api::object;
use k3s_api::status::Status;
use serde_json::Value;

use crate::call::Call;
use crate::options::WriteOptions;

/// Runs `work` with the writer of this request.
fn with_writer<T>(call: &Call, options: &WriteOptions, subresource: &str, work: impl FnOnce(&Writer<'_>) -> T) -> T {
    let row = &call.row;
    let agent = call.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let reset: Set = reset_fields(row.has_status(), decode::is_custom(row), subresource);
    work(&Writer {
        schema: row.schema(),
        api_version: &row.api_version(),
        kind: &row.kind,
        subresource,
        manager: &manager_name(&options.field_manager, agent),
        reset: &reset,
        now: Timestamp::now(),
    })
}

/// Notes in `new` what the client of a create, update or patch has set.
pub(crate) fn track(call: &Call, options: &WriteOptions, old: Option<&Value>, new: &mut Value) {
    with_writer(call, options, &call.info.subresource, |writer| writer.update(old, new));
    if call.info.subresource == "scale" {
        forget_scale_times(new);
    }
}

/// Kubernetes notes no time for what is written through `scale`.
fn forget_scale_times(new: &mut Value) {
    let entries = object::metadata_mut(new).get_mut("managedFields").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
        if entry.get("subresource").is_some_and(|name| name == "scale") {
            entry.remove("time");
        }
    }
}

/// The object with the applied configuration merged into it, and the fields noted.
///
/// # Errors
/// See [`Writer::apply`].
pub(crate) fn apply(
    call: &Call,
    options: &WriteOptions,
    old: Option<&Value>,
    configuration: &Value,
) -> Result<Value, Status> {
    let applied =
        with_writer(call, options, &call.info.subresource, |writer| writer.apply(old, configuration, options.force))?;
    // What the configuration took away is null now.
    let decoded = decode::decode_value(applied, call.row.schema(), FieldValidation::Ignore);
    decoded.map(|decoded| decoded.value).map_err(|error| Status::bad_request(error.to_string()))
}
