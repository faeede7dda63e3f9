//! `crictl inspect`, `inspectp` and `inspecti`

use clap::Args;
use k8s_cri::v1::*;

use super::list::entries;
use crate::connection::Connection;
use crate::error::Error;
use crate::output::{self, Format, print};
use crate::{human, protojson};

/// How to show it.
#[derive(Debug, Args)]
struct Shown {
    #[arg(short, long, default_value = "json")]
    output: Format,
    /// Without the runtime's own information
    #[arg(short, long)]
    quiet: bool,
}

/// Display the status of one or more containers
#[derive(Debug, Args)]
pub struct Inspect {
    #[arg(value_name = "CONTAINER-ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    shown: Shown,
}

impl Inspect {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let mut values = Vec::new();
        for id in &self.ids {
            let request = ContainerStatusRequest { container_id: id.clone(), verbose: !self.shown.quiet };
            let answer = cri.runtime.container_status(request).await;
            let answer =
                answer.map_err(Error::call(format!("getting the status of the container {id:?}")))?.into_inner();
            let status = answer.status.unwrap_or_default();
            if self.shown.output == Format::Table {
                print(container(&status))?;
                continue;
            }
            let times = ["createdAt", "startedAt", "finishedAt"];
            values.push(output::status(protojson::to_value(&status), &times, &answer.info));
        }
        output::statuses(values, self.shown.output)
    }
}

fn container(status: &ContainerStatus) -> String {
    let metadata = status.metadata.clone().unwrap_or_default();
    let mut text = format!(
        "ID: {}\nName: {}\nAttempt: {}\nState: {}\nCreated: {}\n",
        status.id,
        metadata.name,
        metadata.attempt,
        status.state().as_str_name(),
        human::ago(status.created_at)
    );
    if status.state() != ContainerState::ContainerCreated {
        text += &format!("Started: {}\n", human::ago(status.started_at));
    }
    if status.state() == ContainerState::ContainerExited {
        text += &format!("Finished: {}\nExit Code: {}\n", human::ago(status.finished_at), status.exit_code);
    }
    text + &entries("Labels", &status.labels) + &entries("Annotations", &status.annotations)
}

/// Display the status of one or more pods
#[derive(Debug, Args)]
pub struct InspectPod {
    #[arg(value_name = "POD-ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    shown: Shown,
}

impl InspectPod {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let mut values = Vec::new();
        for id in &self.ids {
            let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: !self.shown.quiet };
            let answer = cri.runtime.pod_sandbox_status(request).await;
            let answer = answer.map_err(Error::call(format!("getting the status of the pod {id:?}")))?.into_inner();
            let status = answer.status.unwrap_or_default();
            if self.shown.output == Format::Table {
                print(pod(&status))?;
                continue;
            }
            values.push(output::status(protojson::to_value(&status), &["createdAt"], &answer.info));
        }
        output::statuses(values, self.shown.output)
    }
}

fn pod(status: &PodSandboxStatus) -> String {
    let metadata = status.metadata.clone().unwrap_or_default();
    let network = status.network.clone().unwrap_or_default();
    let mut text = format!(
        "ID: {}\nName: {}\nUID: {}\nNamespace: {}\nAttempt: {}\nStatus: {}\nCreated: {}\nIP Addresses: {}\n",
        status.id,
        metadata.name,
        metadata.uid,
        metadata.namespace,
        metadata.attempt,
        status.state().as_str_name(),
        human::ago(status.created_at),
        network.ip
    );
    network.additional_ips.iter().for_each(|ip| text += &format!("Additional IP: {}\n", ip.ip));
    text + &entries("Labels", &status.labels) + &entries("Annotations", &status.annotations)
}

/// Display the status of one or more images
#[derive(Debug, Args)]
pub struct InspectImage {
    #[arg(value_name = "IMAGE-ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    shown: Shown,
}

impl InspectImage {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let mut values = Vec::new();
        for id in &self.ids {
            let answer = super::images::status(cri, id, !self.shown.quiet).await?;
            let image = answer.image.ok_or_else(|| Error::NotFound(format!("no such image {id:?} present")))?;
            if self.shown.output == Format::Table {
                let mut text = format!("ID: {}\n", image.id);
                image.repo_tags.iter().for_each(|tag| text += &format!("Tag: {tag}\n"));
                image.repo_digests.iter().for_each(|digest| text += &format!("Digest: {digest}\n"));
                print(text + &format!("Size: {}\n", human::size(image.size, 3)))?;
                continue;
            }
            values.push(output::status(protojson::to_value(&image), &[], &answer.info));
        }
        output::statuses(values, self.shown.output)
    }
}
