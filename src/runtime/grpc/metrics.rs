//! Pods' and containers' metrics, under cAdvisor's names (KEP-2371): what the kernel tells of running ones.

use k3s_cri::{ContainerStatus, PodSandboxStatus, Stats};
use k8s_cri::v1;

use crate::stats::{Interface, PodUsage};

/// A metric of `T`: name, help, and its value.
struct Metric<T> {
    name: &'static str,
    help: &'static str,
    kind: v1::MetricType,
    value: fn(&T) -> u64,
}

use v1::MetricType::{Counter, Gauge};

const SECOND: u64 = 1_000_000_000;

const fn metric<T>(name: &'static str, kind: v1::MetricType, value: fn(&T) -> u64, help: &'static str) -> Metric<T> {
    Metric { name, help, kind, value }
}

/// Of a container's usage.
static CONTAINER: &[Metric<Stats>] = &[
    metric(
        "container_cpu_usage_seconds_total",
        Counter,
        |of| of.cpu_nanos / SECOND,
        "Cumulative cpu time consumed in seconds.",
    ),
    metric(
        "container_cpu_user_seconds_total",
        Counter,
        |of| of.cpu_user_nanos / SECOND,
        "Cumulative user cpu time consumed in seconds.",
    ),
    metric(
        "container_cpu_system_seconds_total",
        Counter,
        |of| of.cpu_system_nanos / SECOND,
        "Cumulative system cpu time consumed in seconds.",
    ),
    metric(
        "container_cpu_cfs_periods_total",
        Counter,
        |of| of.cpu_periods,
        "Number of elapsed enforcement period intervals.",
    ),
    metric(
        "container_cpu_cfs_throttled_periods_total",
        Counter,
        |of| of.cpu_throttled_periods,
        "Number of throttled period intervals.",
    ),
    metric(
        "container_cpu_cfs_throttled_seconds_total",
        Counter,
        |of| of.cpu_throttled_nanos / SECOND,
        "Total time duration the container has been throttled.",
    ),
    metric(
        "container_memory_usage_bytes",
        Gauge,
        |of| of.memory_usage,
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    ),
    metric("container_memory_working_set_bytes", Gauge, |of| of.memory_working_set, "Current working set in bytes."),
    metric("container_memory_rss", Gauge, |of| of.memory_rss, "Size of RSS in bytes."),
    metric("container_memory_cache", Gauge, |of| of.memory_cache, "Number of bytes of page cache memory."),
    metric("container_memory_mapped_file", Gauge, |of| of.memory_mapped_file, "Size of memory mapped files in bytes."),
    metric("container_memory_swap", Gauge, |of| of.swap_usage.unwrap_or(0), "Container swap usage in bytes."),
    metric(
        "container_oom_events_total",
        Counter,
        |of| of.oom_kills,
        "Count of out of memory events observed for the container",
    ),
    metric(
        "container_fs_usage_bytes",
        Gauge,
        |of| of.writable_layer.as_ref().map_or(0, |layer| layer.used_bytes),
        "Number of bytes that are consumed by the container on this filesystem.",
    ),
    metric("container_fs_reads_bytes_total", Counter, |of| of.read_bytes, "Cumulative count of bytes read"),
    metric("container_fs_writes_bytes_total", Counter, |of| of.written_bytes, "Cumulative count of bytes written"),
    metric("container_processes", Gauge, |of| of.processes, "Number of processes running inside the container."),
];

/// Of a container itself.
static SINCE: &[Metric<ContainerStatus>] = &[metric(
    "container_start_time_seconds",
    Gauge,
    |of| u64::try_from(of.started_at).unwrap_or(0) / SECOND,
    "Start time of the container since unix epoch in seconds.",
)];

/// Page faults, by their kind.
const FAILURES: (&str, &str) = ("container_memory_failures_total", "Cumulative count of memory allocation failures.");
/// The value of `failure_type`, and of the metric.
type Fault = (&'static str, fn(&Stats) -> u64);
const KINDS_OF_FAULT: [Fault; 2] = [("pgfault", |of| of.page_faults), ("pgmajfault", |of| of.major_page_faults)];

/// Of a pod's network interface.
static NETWORK: &[Metric<Interface>] = &[
    metric(
        "container_network_receive_bytes_total",
        Counter,
        |of| of.received.bytes,
        "Cumulative count of bytes received",
    ),
    metric(
        "container_network_receive_packets_total",
        Counter,
        |of| of.received.packets,
        "Cumulative count of packets received",
    ),
    metric(
        "container_network_receive_packets_dropped_total",
        Counter,
        |of| of.received.dropped,
        "Cumulative count of packets dropped while receiving",
    ),
    metric(
        "container_network_receive_errors_total",
        Counter,
        |of| of.received.errors,
        "Cumulative count of errors encountered while receiving",
    ),
    metric(
        "container_network_transmit_bytes_total",
        Counter,
        |of| of.sent.bytes,
        "Cumulative count of bytes transmitted",
    ),
    metric(
        "container_network_transmit_packets_total",
        Counter,
        |of| of.sent.packets,
        "Cumulative count of packets transmitted",
    ),
    metric(
        "container_network_transmit_packets_dropped_total",
        Counter,
        |of| of.sent.dropped,
        "Cumulative count of packets dropped while transmitting",
    ),
    metric(
        "container_network_transmit_errors_total",
        Counter,
        |of| of.sent.errors,
        "Cumulative count of errors encountered while transmitting",
    ),
];

const LABELS: [&str; 6] = ["id", "name", "image", "container", "pod", "namespace"];

fn keys(more: &[&str]) -> Vec<String> {
    LABELS.iter().chain(more).map(|key| (*key).to_owned()).collect()
}

/// What metrics there are, and the keys of their labels.
pub(super) fn descriptors() -> Vec<v1::MetricDescriptor> {
    fn of<T>(metrics: &[Metric<T>], more: &[&str]) -> impl Iterator<Item = v1::MetricDescriptor> {
        let label_keys = keys(more);
        metrics.iter().map(move |metric| v1::MetricDescriptor {
            name: metric.name.to_owned(),
            help: metric.help.to_owned(),
            label_keys: label_keys.clone(),
        })
    }
    let failures = v1::MetricDescriptor {
        name: FAILURES.0.to_owned(),
        help: FAILURES.1.to_owned(),
        label_keys: keys(&["failure_type", "scope"]),
    };
    let containers = of(CONTAINER, &[]).chain(of(SINCE, &[])).chain([failures]);
    containers.chain(of(NETWORK, &["interface"])).collect()
}

/// The metrics of a pod and its containers.
pub(super) fn of_pod(
    sandbox: &PodSandboxStatus,
    usage: &PodUsage,
    containers: &[(ContainerStatus, Stats)],
) -> v1::PodSandboxMetrics {
    // In the order of the keys.
    let labels = |id: &str, name: &str, image: &str, more: &[&str]| {
        let own = [id, name, image, name, &sandbox.name, &sandbox.namespace];
        own.iter().chain(more).map(|value| (*value).to_owned()).collect::<Vec<_>>()
    };
    let of_container = |(container, stats): &(ContainerStatus, Stats)| {
        let labels = |more: &[&str]| labels(&container.id, &container.name, &container.image, more);
        let mut metrics: Vec<_> =
            CONTAINER.iter().map(|metric| metric.sample(stats, stats.timestamp, labels(&[]))).collect();
        metrics.extend(SINCE.iter().map(|metric| metric.sample(container, stats.timestamp, labels(&[]))));
        metrics.extend(KINDS_OF_FAULT.iter().map(|(kind, value)| {
            metric(FAILURES.0, Counter, *value, FAILURES.1).sample(stats, stats.timestamp, labels(&[kind, "container"]))
        }));
        v1::ContainerMetrics { container_id: container.id.clone(), metrics }
    };
    let of_interface = |interface: &Interface| {
        let labels = labels(&sandbox.id, "", "", &[&interface.name]);
        let timestamp = usage.stats.timestamp;
        NETWORK.iter().map(|metric| metric.sample(interface, timestamp, labels.clone())).collect::<Vec<_>>()
    };
    v1::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.clone(),
        metrics: usage.interfaces.iter().flat_map(of_interface).collect(),
        container_metrics: containers.iter().map(of_container).collect(),
    }
}

impl<T> Metric<T> {
    fn sample(&self, of: &T, timestamp: i64, label_values: Vec<String>) -> v1::Metric {
        v1::Metric {
            name: self.name.to_owned(),
            timestamp,
            metric_type: self.kind.into(),
            label_values,
            value: Some(v1::UInt64Value { value: (self.value)(of) }),
        }
    }
}
