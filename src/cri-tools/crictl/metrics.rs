//! `crictl metricdescs` and `metricsp`

use clap::Args;
use k8s_cri::v1::*;

use crate::connection::Connection;
use crate::error::Error;
use crate::output::{self, Format};

/// List metric descriptors
#[derive(Debug, Args)]
pub struct Descriptors {}

impl Descriptors {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let answer = cri.runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await;
        output::message(&answer.map_err(Error::call("list metric descriptors"))?.into_inner(), Format::Json)
    }
}

/// List pod metrics
#[derive(Debug, Args)]
pub struct PodMetrics {}

impl PodMetrics {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let answer = cri.runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await;
        output::message(&answer.map_err(Error::call("list pod sandbox metrics"))?.into_inner(), Format::Json)
    }
}
