//! The quotas of a namespace.

use async_trait::async_trait;
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Plugin};

pub struct ResourceQuota;

#[async_trait]
impl Plugin for ResourceQuota {
    async fn validate(&self, _: &Attributes<'_>, _: &Value, _: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}
