//! `crictl update`

use clap::Args;
use k8s_cri::v1::*;

use crate::connection::Connection;
use crate::error::Error;
use crate::output::line;

/// Change the limits of one or more running containers
#[derive(Debug, Args)]
pub struct Update {
    #[arg(value_name = "CONTAINER-ID", required = true)]
    ids: Vec<String>,
    /// Length of a period of the CPU limit, in microseconds
    #[arg(long, default_value_t = 0)]
    cpu_period: i64,
    /// CPU time in a period, in microseconds
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    cpu_quota: i64,
    /// Weight against other containers, 2 to 262144
    #[arg(long, default_value_t = 0)]
    cpu_share: i64,
    /// CPUs to run on, such as 0-2,4
    #[arg(long, default_value = "")]
    cpuset_cpus: String,
    /// Memory nodes to use
    #[arg(long, default_value = "")]
    cpuset_mems: String,
    /// Memory limit in bytes
    #[arg(long, default_value_t = 0)]
    memory: i64,
}

impl Update {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let linux = LinuxContainerResources {
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_share,
            cpuset_cpus: self.cpuset_cpus,
            cpuset_mems: self.cpuset_mems,
            memory_limit_in_bytes: self.memory,
            ..Default::default()
        };
        for id in self.ids {
            let request = UpdateContainerResourcesRequest {
                container_id: id.clone(),
                linux: Some(linux.clone()),
                ..Default::default()
            };
            let updated = cri.runtime.update_container_resources(request).await;
            updated.map_err(Error::call(format!("updating container resources for {id:?}")))?;
            line(id)?;
        }
        Ok(())
    }
}
