//! Defaults, minima and maxima of a namespace's limit ranges, for containers, pods and claims.

use async_trait::async_trait;
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Plugin};

pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    async fn admit(&self, _: &Attributes<'_>, _: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}
