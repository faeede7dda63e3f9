//! `crictl ps`

use clap::Args;
use k8s_cri::v1::*;

use super::images::same_image;
use super::list::{ListFlags, entries, fits};
use crate::connection::Connection;
use crate::error::Error;
use crate::human;
use crate::output::{self, Format, line, print, short};
use crate::table::Table;

/// List containers
#[derive(Debug, Args)]
pub struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only those of this image
    #[arg(long)]
    image: Option<String>,
    /// Only those of the pod whose id begins so
    #[arg(short, long, default_value = "")]
    pod: String,
    /// Show images by name where they are known by id
    #[arg(short, long)]
    resolve_image_path: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// The kubelet's labels.
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

fn label<'a>(container: &'a Container, name: &str) -> &'a str {
    container.labels.get(name).map_or("unknown", String::as_str)
}

/// `Running`, as people see a state.
fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "Created",
        ContainerState::ContainerRunning => "Running",
        ContainerState::ContainerExited => "Exited",
        ContainerState::ContainerUnknown => "Unknown",
    }
}

impl Ps {
    fn state(&self) -> Result<Option<ContainerStateValue>, Error> {
        let wanted = match self.list.state.as_deref().map(str::to_lowercase).as_deref() {
            _ if self.list.any_state() => None,
            None => (!self.all).then_some(ContainerState::ContainerRunning),
            Some("created") => Some(ContainerState::ContainerCreated),
            Some("running") => Some(ContainerState::ContainerRunning),
            Some("exited") => Some(ContainerState::ContainerExited),
            Some("unknown") => Some(ContainerState::ContainerUnknown),
            Some(_) => {
                return Err(Error::Usage("--state should be one of created, running, exited or unknown".to_owned()));
            }
        };
        Ok(wanted.map(|state| ContainerStateValue { state: state.into() }))
    }

    async fn containers(&self, cri: &mut Connection) -> Result<Vec<Container>, Error> {
        let filter = ContainerFilter {
            id: self.list.id.clone(),
            state: self.state()?,
            pod_sandbox_id: self.pod.clone(),
            label_selector: self.list.labels()?,
        };
        let request = ListContainersRequest { filter: Some(filter) };
        let all = cri.runtime.list_containers(request).await.map_err(Error::call("list containers"))?;
        let mut containers = Vec::new();
        for container in all.into_inner().containers {
            let name = container.metadata.as_ref().map_or("", |metadata| metadata.name.as_str());
            let named = fits(self.list.name.as_ref(), name)
                && fits(self.list.namespace.as_ref(), label(&container, POD_NAMESPACE));
            if !named {
                continue;
            }
            if let Some(image) = &self.image {
                let of = container.image.as_ref().map_or("", |image| image.image.as_str());
                if !same_image(cri, image, of).await? {
                    continue;
                }
            }
            containers.push(container);
        }
        Ok(self.list.cut(containers, |container| container.created_at))
    }

    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let containers = self.containers(cri).await?;
        if self.list.output != Format::Table {
            return output::message(&ListContainersResponse { containers }, self.list.output);
        }
        if self.list.quiet {
            return containers.iter().try_for_each(|container| line(&container.id));
        }
        if self.list.verbose {
            return containers.iter().try_for_each(|container| print(describe(container)));
        }
        let head = ["CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"];
        let mut table = Table::new(&head);
        for container in containers {
            let metadata = container.metadata.clone().unwrap_or_default();
            let mut image = container.image.as_ref().map_or_else(String::new, |image| image.image.clone());
            if self.resolve_image_path {
                image = resolved(cri, image).await?;
            } else if image.starts_with("sha256:") {
                image = short(&image, self.list.no_trunc).to_owned();
            }
            table.row(vec![
                short(&container.id, self.list.no_trunc).to_owned(),
                image,
                human::ago(container.created_at),
                state(container.state()).to_owned(),
                metadata.name,
                metadata.attempt.to_string(),
                short(&container.pod_sandbox_id, self.list.no_trunc).to_owned(),
                label(&container, POD_NAME).to_owned(),
                label(&container, POD_NAMESPACE).to_owned(),
            ]);
        }
        print(table)
    }
}

async fn resolved(cri: &mut Connection, image: String) -> Result<String, Error> {
    let found = super::images::status(cri, &image, false).await?.image;
    Ok(found.and_then(|image| image.repo_tags.into_iter().next()).unwrap_or(image))
}

fn describe(container: &Container) -> String {
    let metadata = container.metadata.clone().unwrap_or_default();
    let image = container.image.as_ref().map_or("", |image| image.image.as_str());
    format!(
        "ID: {}\nPodID: {}\nNamespace: {}\nName: {}\nAttempt: {}\nState: {}\nImage: {image}\nCreated: {}\n{}{}\n",
        container.id,
        container.pod_sandbox_id,
        label(container, POD_NAMESPACE),
        metadata.name,
        metadata.attempt,
        state(container.state()),
        human::ago(container.created_at),
        entries("Labels", &container.labels),
        entries("Annotations", &container.annotations),
    )
}
