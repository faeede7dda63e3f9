//! `crictl events`

use clap::Args;
use k8s_cri::v1::GetEventsRequest;

use crate::connection::Connection;
use crate::error::Error;
use crate::output::{self, Format};

/// Show what happens to containers, until interrupted
#[derive(Debug, Args)]
pub struct Events {
    #[arg(short, long, default_value = "json")]
    output: Format,
}

impl Events {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let events = cri.runtime.get_container_events(GetEventsRequest {}).await;
        let mut events = events.map_err(Error::call("getting container events"))?.into_inner();
        while let Some(event) = events.message().await.map_err(Error::call("getting container events"))? {
            output::message(&event, self.output)?;
        }
        Ok(())
    }
}
