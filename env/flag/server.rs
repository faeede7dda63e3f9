//! Flags of the server as a whole: what it listens on, where it keeps things, what it runs.

use super::Subcommand::Server;
use super::{Flag, Type};

const CONFIG: &str = "config";
const LOGGING: &str = "logging";
const LISTENER: &str = "listener";
const DATA: &str = "data";
const NETWORKING: &str = "networking";
const CLIENT: &str = "client";
const HELM: &str = "helm";
const CLUSTER: &str = "cluster";
const FLAGS: &str = "flags";
const STORAGE: &str = "storage";
const COMPONENTS: &str = "components";
const EXPERIMENTAL_COMPONENTS: &str = "experimental/components";

const ONE_NODE: &str = "this version has one node, so there is no traffic between nodes";
const NO_EMBEDDED_ETCD: &str = "this version has no embedded etcd; data would lie elsewhere than is asked for. Leave it \
                                out to use SQLite";
const NO_JOINING: &str = "joining a cluster is not available in this version";
const ONE_PORT: &str = "the API server and the supervisor share --https-listen-port";
const NO_ROLES: &str = "a server of this version is not split into roles";

/// What stands before the datastore's flags in the help.
pub static BEFORE: &[Flag] = &[
    Flag::new("config", Type::Path, CONFIG, "Read the configuration from this file, and from the folder FILE.d")
        .short('c')
        .default("/etc/rancher/k3s/config.yaml")
        .variable("K3S_CONFIG_FILE"),
    Flag::new("debug", Type::Switch, LOGGING, "Log for debugging").variable("K3S_DEBUG"),
    Flag::new("v", Type::Number, LOGGING, "How much is logged, as a number: from 4 on as with --debug")
        .short('v')
        .default("0"),
    Flag::new("vmodule", Type::Text, LOGGING, "How much single source files log: PATTERN=N, separated by commas")
        .ignored("levels of single files can't be set"),
    Flag::new("log", Type::Path, LOGGING, "Log to this file instead of standard error").short('l'),
    Flag::new("alsologtostderr", Type::Switch, LOGGING, "Log to standard error besides the file"),
    Flag::new("bind-address", Type::Address, LISTENER, "Address that k3s listens on").default("0.0.0.0"),
    Flag::new("https-listen-port", Type::Port, LISTENER, "Port that k3s serves HTTPS on").default("6443").only(Server),
    Flag::new("supervisor-port", Type::Port, LISTENER, "Port of the supervisor, if not the same")
        .only(Server)
        .hidden()
        .refused(ONE_PORT),
    Flag::new("apiserver-port", Type::Port, LISTENER, "Port of the API server, if not the same")
        .only(Server)
        .hidden()
        .refused(ONE_PORT),
    Flag::new("apiserver-bind-address", Type::Address, LISTENER, "Address of the API server, if not the same")
        .only(Server)
        .hidden()
        .refused("the API server listens on --bind-address"),
    Flag::new(
        "advertise-address",
        Type::Address,
        LISTENER,
        "Address at which members of the cluster reach the API server; without it the first --node-external-ip, or \
         --node-ip",
    )
    .only(Server),
    Flag::new(
        "advertise-port",
        Type::Port,
        LISTENER,
        "Port at which members of the cluster reach the API server; without it --https-listen-port",
    )
    .only(Server),
    Flag::new("tls-san", Type::Text, LISTENER, "More host names and addresses for the server's certificate")
        .repeatable()
        .only(Server),
    Flag::new(
        "tls-san-security",
        Type::Switch,
        LISTENER,
        "Keep names out of the certificate that are neither the cluster's own nor in --tls-san",
    )
    .default("true")
    .only(Server)
    .ignored("names are never added because a client asks for them"),
    Flag::new("data-dir", Type::Path, DATA, "Folder of all state; rootless, ~/.rancher/k3s if nothing is given")
        .short('d')
        .default("/var/lib/rancher/k3s")
        .variable("K3S_DATA_DIR"),
    Flag::new("cluster-cidr", Type::Network, NETWORKING, "Network that pods get addresses from")
        .default("10.42.0.0/16")
        .repeatable()
        .only(Server),
    Flag::new("service-cidr", Type::Network, NETWORKING, "Network that services get addresses from")
        .default("10.43.0.0/16")
        .repeatable()
        .only(Server),
    Flag::new("service-node-port-range", Type::PortRange, NETWORKING, "Ports for services of type NodePort")
        .default("30000-32767")
        .only(Server),
    Flag::new(
        "cluster-dns",
        Type::Address,
        NETWORKING,
        "Address of the DNS service; without it the tenth of --service-cidr",
    )
    .default("10.43.0.10")
    .repeatable()
    .only(Server),
    Flag::new("cluster-domain", Type::Text, NETWORKING, "Domain of the cluster's names")
        .default("cluster.local")
        .only(Server),
    Flag::new(
        "flannel-backend",
        Type::OneOf(&["vxlan", "host-gw", "wireguard-native", "none"]),
        NETWORKING,
        "How nodes reach each other's pods: vxlan, host-gw, wireguard-native or none",
    )
    .default("vxlan")
    .only(Server)
    .ignored("this version has one node, so there is no traffic between nodes; none is refused"),
    Flag::new("flannel-ipv6-masq", Type::Switch, NETWORKING, "Masquerade pods' IPv6 traffic to elsewhere")
        .only(Server)
        .ignored("pods have IPv4 addresses only"),
    Flag::new("flannel-external-ip", Type::Switch, NETWORKING, "Reach other nodes at their external addresses")
        .only(Server)
        .ignored(ONE_NODE),
    Flag::new(
        "egress-selector-mode",
        Type::OneOf(&["agent", "cluster", "pod", "disabled"]),
        NETWORKING,
        "How the API server reaches nodes and pods: agent, cluster, pod or disabled",
    )
    .default("agent")
    .only(Server)
    .ignored("the API server reaches its one node directly"),
    Flag::new("servicelb-namespace", Type::Text, NETWORKING, "Namespace of the service load balancer's pods")
        .default("kube-system")
        .only(Server)
        .ignored("this version has no service load balancer"),
    Flag::new("write-kubeconfig", Type::Path, CLIENT, "Write the administrator's kubeconfig to this file")
        .short('o')
        .variable("K3S_KUBECONFIG_OUTPUT")
        .only(Server),
    Flag::new("write-kubeconfig-mode", Type::Mode, CLIENT, "Mode of the kubeconfig, in octal")
        .default("0600")
        .variable("K3S_KUBECONFIG_MODE")
        .only(Server),
    Flag::new("write-kubeconfig-group", Type::Text, CLIENT, "Group of the kubeconfig, by name or number")
        .variable("K3S_KUBECONFIG_GROUP")
        .only(Server),
    Flag::new("helm-job-image", Type::Text, HELM, "Image of the jobs that install charts")
        .only(Server)
        .ignored("this version has no Helm controller"),
    Flag::new("token", Type::Text, CLUSTER, "Shared secret with which servers and nodes join the cluster")
        .short('t')
        .variable("K3S_TOKEN"),
    Flag::new("token-file", Type::Path, CLUSTER, "File with the token").variable("K3S_TOKEN_FILE"),
    Flag::new("agent-token", Type::Text, CLUSTER, "Shared secret with which nodes join, but not servers")
        .variable("K3S_AGENT_TOKEN")
        .only(Server)
        .ignored(NO_JOINING),
    Flag::new("agent-token-file", Type::Path, CLUSTER, "File with the agents' token")
        .variable("K3S_AGENT_TOKEN_FILE")
        .only(Server)
        .ignored(NO_JOINING),
    Flag::new("server", Type::Url, CLUSTER, "Server to join, such as https://k3s.example.org:6443")
        .short('s')
        .variable("K3S_URL")
        .only(Server)
        .refused(NO_JOINING),
    Flag::new("cluster-init", Type::Switch, CLUSTER, "Start a new cluster with embedded etcd")
        .variable("K3S_CLUSTER_INIT")
        .only(Server)
        .refused(NO_EMBEDDED_ETCD),
    Flag::new("cluster-reset", Type::Switch, CLUSTER, "Forget all members and be the only one of a new cluster")
        .variable("K3S_CLUSTER_RESET")
        .only(Server)
        .refused(NO_EMBEDDED_ETCD),
    Flag::new("cluster-reset-restore-path", Type::Path, "db", "Snapshot to restore")
        .only(Server)
        .refused(NO_EMBEDDED_ETCD),
    Flag::new("kube-apiserver-arg", Type::Argument, FLAGS, "Flag for the API server").repeatable().only(Server),
    Flag::new("etcd-arg", Type::Argument, FLAGS, "Flag for etcd").repeatable().only(Server),
    Flag::new("kube-controller-manager-arg", Type::Argument, FLAGS, "Flag for the controller manager")
        .alias("kube-controller-arg")
        .repeatable()
        .only(Server),
    Flag::new("kube-scheduler-arg", Type::Argument, FLAGS, "Flag for the scheduler").repeatable().only(Server),
    Flag::new("kube-cloud-controller-manager-arg", Type::Argument, FLAGS, "Flag for the cloud controller manager")
        .alias("kube-cloud-controller-arg")
        .repeatable()
        .only(Server),
    Flag::new("helm-controller-arg", Type::Argument, FLAGS, "Flag for the Helm controller").repeatable().only(Server),
];

/// What stands between the datastore's flags and those of the node.
pub static AFTER: &[Flag] = &[
    Flag::new("default-local-storage-path", Type::Path, STORAGE, "Folder of the volumes of storage class local-path")
        .only(Server)
        .ignored("this version has no local storage provisioner"),
    Flag::new(
        "disable",
        Type::Text,
        COMPONENTS,
        "Packaged components that are not deployed, and deleted if they were: coredns, servicelb, traefik, \
         local-storage, metrics-server, runtimes",
    )
    .repeatable()
    .only(Server),
    Flag::new("disable-scheduler", Type::Switch, COMPONENTS, "Run no scheduler").only(Server),
    Flag::new("disable-cloud-controller", Type::Switch, COMPONENTS, "Run no cloud controller manager")
        .only(Server)
        .moot("this version has none"),
    Flag::new("disable-kube-proxy", Type::Switch, COMPONENTS, "Run no service proxy").only(Server),
    Flag::new("disable-network-policy", Type::Switch, COMPONENTS, "Run no network policy controller")
        .only(Server)
        .moot("this version has none"),
    Flag::new("disable-helm-controller", Type::Switch, COMPONENTS, "Run no Helm controller")
        .only(Server)
        .moot("this version has none"),
    Flag::new("disable-apiserver", Type::Switch, EXPERIMENTAL_COMPONENTS, "Run no API server")
        .only(Server)
        .hidden()
        .refused(NO_ROLES),
    Flag::new("disable-controller-manager", Type::Switch, EXPERIMENTAL_COMPONENTS, "Run no controllers")
        .only(Server)
        .hidden(),
    Flag::new("disable-etcd", Type::Switch, EXPERIMENTAL_COMPONENTS, "Run no etcd")
        .only(Server)
        .hidden()
        .refused(NO_ROLES),
    Flag::new("embedded-registry", Type::Switch, EXPERIMENTAL_COMPONENTS, "Share images between nodes")
        .only(Server)
        .ignored("this version has one node, so there is nobody to share with"),
    Flag::new("supervisor-metrics", Type::Switch, EXPERIMENTAL_COMPONENTS, "Serve k3s's own metrics")
        .only(Server)
        .ignored("there are no metrics of k3s's own in this version"),
    Flag::new("disable-agent", Type::Switch, EXPERIMENTAL_COMPONENTS, "Run no node in this server")
        .only(Server)
        .hidden(),
    Flag::new("no-deploy", Type::Text, COMPONENTS, "What is now --disable")
        .repeatable()
        .only(Server)
        .hidden()
        .refused("k3s has dropped it; use --disable"),
    Flag::new("cluster-secret", Type::Text, CLUSTER, "What is now --token")
        .variable("K3S_CLUSTER_SECRET")
        .hidden()
        .refused("k3s has dropped it; use --token"),
    Flag::new("no-flannel", Type::Switch, NETWORKING, "What is now --flannel-backend=none")
        .hidden()
        .refused("k3s has dropped it; use --flannel-backend=none"),
];
