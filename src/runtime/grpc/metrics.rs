//! Pods' and containers' metrics, under cAdvisor's names (KEP-2371): what the kernel tells of running containers.

use k3s_cri::{ContainerStatus, PodSandboxStatus, Stats};
use k8s_cri::v1;

/// A metric: name, help, and its value in a container's usage.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: v1::MetricType,
    value: fn(&Stats) -> u64,
}

const SECOND: u64 = 1_000_000_000;

static METRICS: &[Metric] = &[
    Metric {
        name: "container_cpu_usage_seconds_total",
        help: "Cumulative cpu time consumed in seconds.",
        kind: v1::MetricType::Counter,
        value: |stats| stats.cpu_nanos / SECOND,
    },
    Metric {
        name: "container_memory_working_set_bytes",
        help: "Current working set in bytes.",
        kind: v1::MetricType::Gauge,
        value: |stats| stats.memory_working_set,
    },
    Metric {
        name: "container_memory_rss",
        help: "Size of RSS in bytes.",
        kind: v1::MetricType::Gauge,
        value: |stats| stats.memory_rss,
    },
    Metric {
        name: "container_processes",
        help: "Number of processes running inside the container.",
        kind: v1::MetricType::Gauge,
        value: |stats| stats.processes,
    },
];

const LABELS: [&str; 4] = ["id", "name", "image", "container"];

/// What metrics there are, and the keys of their labels.
pub(super) fn descriptors() -> Vec<v1::MetricDescriptor> {
    let label_keys: Vec<String> = LABELS.map(str::to_owned).to_vec();
    let descriptor = |metric: &Metric| v1::MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: label_keys.clone(),
    };
    METRICS.iter().map(descriptor).collect()
}

/// The metrics of a pod's containers.
pub(super) fn of_pod(sandbox: &PodSandboxStatus, containers: &[(ContainerStatus, Stats)]) -> v1::PodSandboxMetrics {
    let of_container = |(container, stats): &(ContainerStatus, Stats)| v1::ContainerMetrics {
        container_id: container.id.clone(),
        metrics: METRICS.iter().map(|metric| sample(metric, container, stats)).collect(),
    };
    v1::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.clone(),
        metrics: Vec::new(),
        container_metrics: containers.iter().map(of_container).collect(),
    }
}

fn sample(metric: &Metric, container: &ContainerStatus, stats: &Stats) -> v1::Metric {
    // In the order of the keys.
    let label_values = [&container.id, &container.name, &container.image, &container.name].map(String::clone).to_vec();
    v1::Metric {
        name: metric.name.to_owned(),
        timestamp: stats.timestamp,
        metric_type: metric.kind.into(),
        label_values,
        value: Some(v1::UInt64Value { value: (metric.value)(stats) }),
    }
}
