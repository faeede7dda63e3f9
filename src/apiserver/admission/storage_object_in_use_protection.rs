//! Volumes and claims are not removed while something uses them: a finalizer that its controller takes away.

use async_trait::async_trait;
use k3s_api::object::metadata_mut;
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    async fn admit(&self, at: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        let finalizer = match () {
            () if at.operation != Operation::Create => return Ok(()),
            () if at.is("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            () if at.is("", "persistentvolumes") => "kubernetes.io/pv-protection",
            () => return Ok(()),
        };
        let finalizers = metadata_mut(object).entry("finalizers").or_insert(Value::Null);
        if !finalizers.is_array() {
            *finalizers = Value::Array(Vec::new());
        }
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|present| present == finalizer)
        {
            finalizers.push(finalizer.into());
        }
        Ok(())
    }
}
