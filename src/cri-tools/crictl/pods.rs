//! `crictl pods`

use clap::Args;
use k8s_cri::v1::*;

use super::list::{ListFlags, entries, fits};
use crate::connection::Connection;
use crate::error::Error;
use crate::human;
use crate::output::{self, Format, line, print, short};
use crate::table::Table;

/// List pods
#[derive(Debug, Args)]
pub struct Pods {
    #[command(flatten)]
    list: ListFlags,
}

fn state(state: PodSandboxState) -> &'static str {
    match state {
        PodSandboxState::SandboxReady => "Ready",
        PodSandboxState::SandboxNotready => "NotReady",
    }
}

impl Pods {
    fn state(&self) -> Result<Option<PodSandboxStateValue>, Error> {
        let wanted = match self.list.state.as_deref().map(str::to_lowercase).as_deref() {
            _ if self.list.any_state() => None,
            None => None,
            Some("ready") => Some(PodSandboxState::SandboxReady),
            Some("notready") => Some(PodSandboxState::SandboxNotready),
            Some(_) => return Err(Error::Usage("--state should be ready or notready".to_owned())),
        };
        Ok(wanted.map(|state| PodSandboxStateValue { state: state.into() }))
    }

    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let filter =
            PodSandboxFilter { id: self.list.id.clone(), state: self.state()?, label_selector: self.list.labels()? };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let all = cri.runtime.list_pod_sandbox(request).await.map_err(Error::call("list pod sandboxes"))?;
        let mut pods = all.into_inner().items;
        pods.retain(|pod| {
            pod.metadata.as_ref().is_some_and(|metadata| {
                fits(self.list.name.as_ref(), &metadata.name) && fits(self.list.namespace.as_ref(), &metadata.namespace)
            })
        });
        let items = self.list.cut(pods, |pod| pod.created_at);
        if self.list.output != Format::Table {
            return output::message(&ListPodSandboxResponse { items }, self.list.output);
        }
        if self.list.quiet {
            return items.iter().try_for_each(|pod| line(&pod.id));
        }
        if self.list.verbose {
            return items.iter().try_for_each(|pod| print(describe(pod)));
        }
        let mut table = Table::new(&["POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"]);
        for pod in items {
            let metadata = pod.metadata.clone().unwrap_or_default();
            table.row(vec![
                short(&pod.id, self.list.no_trunc).to_owned(),
                human::ago(pod.created_at),
                state(pod.state()).to_owned(),
                metadata.name,
                metadata.namespace,
                metadata.attempt.to_string(),
                handler(&pod.runtime_handler).to_owned(),
            ]);
        }
        print(table)
    }
}

fn handler(name: &str) -> &str {
    if name.is_empty() { "(default)" } else { name }
}

fn describe(pod: &PodSandbox) -> String {
    let metadata = pod.metadata.clone().unwrap_or_default();
    format!(
        "ID: {}\nName: {}\nUID: {}\nNamespace: {}\nAttempt: {}\nStatus: {}\nCreated: {}\n{}{}Runtime: {}\n\n",
        pod.id,
        metadata.name,
        metadata.uid,
        metadata.namespace,
        metadata.attempt,
        state(pod.state()),
        human::ago(pod.created_at),
        entries("Labels", &pod.labels),
        entries("Annotations", &pod.annotations),
        handler(&pod.runtime_handler),
    )
}
