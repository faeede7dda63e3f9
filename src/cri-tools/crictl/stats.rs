//! `crictl stats` and `statsp`

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use k8s_cri::v1::*;

use super::list::labels;
use crate::connection::Connection;
use crate::error::Error;
use crate::human::size;
use crate::output::{self, Format, print, short};
use crate::table::Table;

/// How often `--watch` shows them anew.
const PERIOD: Duration = Duration::from_millis(500);
/// Clears a terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What both commands have.
#[derive(Debug, Args)]
struct Flags {
    /// Only the one whose id begins so
    id: Option<String>,
    /// The same
    #[arg(long = "id", value_name = "ID", conflicts_with = "id")]
    id_flag: Option<String>,
    /// Only those with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// Over how many seconds CPU usage is measured
    #[arg(short, long, default_value_t = 1)]
    seconds: u64,
    /// Show them again and again
    #[arg(short, long)]
    watch: bool,
}

impl Flags {
    fn id(&self) -> String {
        self.id.clone().or_else(|| self.id_flag.clone()).unwrap_or_default()
    }
}

fn number(value: &Option<UInt64Value>) -> u64 {
    value.as_ref().map_or(0, |value| value.value)
}

/// Percent of one CPU between two samples; `None` if there is no time between them.
fn percent(cpu: &CpuUsage, before: &CpuUsage) -> Option<String> {
    let time = cpu.timestamp - before.timestamp;
    let used = number(&cpu.usage_core_nano_seconds).saturating_sub(number(&before.usage_core_nano_seconds));
    (time > 0).then(|| format!("{:.2}", used as f64 / time as f64 * 100.0))
}

/// Shows a table, once or again and again.
async fn show(watch: bool, mut table: impl AsyncFnMut() -> Result<Table, Error>) -> Result<(), Error> {
    loop {
        let table = table().await?;
        if !watch {
            return print(table);
        }
        print(format_args!("{CLEAR}{table}"))?;
        tokio::time::sleep(PERIOD).await;
    }
}

/// Display resource usage of containers
#[derive(Debug, Args)]
pub struct Stats {
    /// Also those that use nothing
    #[arg(short, long)]
    all: bool,
    /// Only those of the pod whose id begins so
    #[arg(short, long, default_value = "")]
    pod: String,
    #[command(flatten)]
    flags: Flags,
}

impl Stats {
    async fn sample(&self, cri: &mut Connection) -> Result<ListContainerStatsResponse, Error> {
        let filter = ContainerStatsFilter {
            id: self.flags.id(),
            pod_sandbox_id: self.pod.clone(),
            label_selector: labels(&self.flags.label)?,
        };
        let request = ListContainerStatsRequest { filter: Some(filter) };
        let stats = cri.runtime.list_container_stats(request).await.map_err(Error::call("list container stats"))?;
        Ok(stats.into_inner())
    }

    async fn table(&self, cri: &mut Connection) -> Result<Table, Error> {
        let id = |stats: &ContainerStats| stats.attributes.as_ref().map_or_else(String::new, |it| it.id.clone());
        let before: HashMap<String, ContainerStats> =
            self.sample(cri).await?.stats.into_iter().map(|stats| (id(&stats), stats)).collect();
        tokio::time::sleep(Duration::from_secs(self.flags.seconds)).await;
        let mut stats = self.sample(cri).await?.stats;
        stats.sort_by_key(id);
        let mut table = Table::new(&["CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES"]);
        for stats in stats {
            let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
            let idle = number(&cpu.usage_core_nano_seconds) == 0 && number(&memory.working_set_bytes) == 0;
            let known = before.get(&id(&stats)).and_then(|before| before.cpu.as_ref());
            // One that is new has nothing to compare with.
            let Some(percent) = known.and_then(|before| percent(&cpu, before)) else { continue };
            if idle && !self.all {
                continue;
            }
            let layer = stats.writable_layer.clone().unwrap_or_default();
            let name = stats.attributes.as_ref().and_then(|it| it.metadata.as_ref()).map(|it| it.name.clone());
            table.row(vec![
                short(&id(&stats), false).to_owned(),
                name.unwrap_or_default(),
                percent,
                size(number(&memory.working_set_bytes), 4),
                size(number(&layer.used_bytes), 4),
                number(&layer.inodes_used).to_string(),
            ]);
        }
        Ok(table)
    }

    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        if self.flags.output != Format::Table {
            return output::message(&self.sample(cri).await?, self.flags.output);
        }
        show(self.flags.watch, async || self.table(cri).await).await
    }
}

/// Display resource usage of pods
#[derive(Debug, Args)]
pub struct PodStats {
    #[command(flatten)]
    flags: Flags,
}

impl PodStats {
    async fn sample(&self, cri: &mut Connection) -> Result<ListPodSandboxStatsResponse, Error> {
        let filter = PodSandboxStatsFilter { id: self.flags.id(), label_selector: labels(&self.flags.label)? };
        let request = ListPodSandboxStatsRequest { filter: Some(filter) };
        let stats = cri.runtime.list_pod_sandbox_stats(request).await.map_err(Error::call("list pod sandbox stats"))?;
        Ok(stats.into_inner())
    }

    async fn table(&self, cri: &mut Connection) -> Result<Table, Error> {
        let attributes = |stats: &PodSandboxStats| stats.attributes.clone().unwrap_or_default();
        let before: HashMap<String, PodSandboxStats> =
            self.sample(cri).await?.stats.into_iter().map(|stats| (attributes(&stats).id, stats)).collect();
        tokio::time::sleep(Duration::from_secs(self.flags.seconds)).await;
        let mut stats = self.sample(cri).await?.stats;
        stats.sort_by_key(|stats| attributes(stats).id);
        let mut table = Table::new(&["POD", "POD ID", "CPU %", "MEM"]);
        for stats in stats {
            let Some(linux) = &stats.linux else { continue };
            let attributes = attributes(&stats);
            let cpu = linux.cpu.unwrap_or_default();
            let known = before.get(&attributes.id).and_then(|before| before.linux.as_ref()?.cpu.as_ref());
            let Some(percent) = known.and_then(|before| percent(&cpu, before)) else { continue };
            let memory = linux.memory.as_ref().map_or(0, |memory| number(&memory.working_set_bytes));
            let name = attributes.metadata.map(|metadata| metadata.name).unwrap_or_default();
            table.row(vec![name, short(&attributes.id, false).to_owned(), percent, size(memory, 4)]);
        }
        Ok(table)
    }

    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        if self.flags.output != Format::Table {
            return output::message(&self.sample(cri).await?, self.flags.output);
        }
        show(self.flags.watch, async || self.table(cri).await).await
    }
}
