//! The table of flags.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, or `=true`/`=false`.
    Switch,
    /// One value.
    Value,
    /// A value each time it is given; commas separate values too.
    List,
}

/// A flag of `k3s server`.
#[derive(Debug)]
pub struct Flag {
    /// Long name, and the key in `config.yaml`.
    pub name: &'static str,
    /// One-letter name.
    pub short: Option<char>,
    /// Environment variable.
    pub variable: Option<&'static str>,
    pub kind: Kind,
    /// Heading in the help, as k3s groups them.
    pub group: &'static str,
    pub help: &'static str,
}

const fn switch(name: &'static str, group: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, variable: None, kind: Kind::Switch, group, help }
}

const fn value(name: &'static str, group: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, variable: None, kind: Kind::Value, group, help }
}

const fn list(name: &'static str, group: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, variable: None, kind: Kind::List, group, help }
}

impl Flag {
    const fn short(mut self, letter: char) -> Flag {
        self.short = Some(letter);
        self
    }

    const fn variable(mut self, name: &'static str) -> Flag {
        self.variable = Some(name);
        self
    }
}

const LOGGING: &str = "logging";
const LISTENER: &str = "listener";
const DATA: &str = "data";
const NETWORKING: &str = "networking";
const CLIENT: &str = "client";
const CLUSTER: &str = "cluster";
const COMPONENTS: &str = "components";
const CUSTOMIZED: &str = "customized components";
const NODE: &str = "agent/node";
const AGENT_NETWORKING: &str = "agent/networking";
const EXPERIMENTAL: &str = "experimental";

/// The flags of `k3s server`, in the order of the help.
pub static SERVER: &[Flag] = &[
    value("config", LOGGING, "Load configuration from FILE [default: /etc/rancher/k3s/config.yaml]")
        .short('c')
        .variable("K3S_CONFIG_FILE"),
    switch("debug", LOGGING, "Turn on debug logs").variable("K3S_DEBUG"),
    value("v", LOGGING, "Number for the log level verbosity").short('v'),
    value("log", LOGGING, "Log to file").short('l'),
    switch("alsologtostderr", LOGGING, "Log to standard error as well as file"),
    value("bind-address", LISTENER, "k3s bind address [default: 0.0.0.0]"),
    value("https-listen-port", LISTENER, "HTTPS listen port [default: 6443]"),
    value("advertise-address", LISTENER, "Address that the API server advertises to members of the cluster"),
    list("tls-san", LISTENER, "Additional hostnames or addresses in the server's certificate"),
    value("data-dir", DATA, "Folder to hold state [default: /var/lib/rancher/k3s, or ~/.rancher/k3s if rootless]")
        .short('d')
        .variable("K3S_DATA_DIR"),
    value("cluster-cidr", NETWORKING, "Network for pod addresses [default: 10.42.0.0/16]"),
    value("service-cidr", NETWORKING, "Network for service addresses [default: 10.43.0.0/16]"),
    value("service-node-port-range", NETWORKING, "Ports for NodePort services [default: 30000-32767]"),
    value("cluster-dns", NETWORKING, "Address of the DNS service [default: the tenth address of service-cidr]"),
    value("cluster-domain", NETWORKING, "Cluster domain [default: cluster.local]"),
    value("token", CLUSTER, "Shared secret used to join a server or agent to a cluster")
        .short('t')
        .variable("K3S_TOKEN"),
    value("token-file", CLUSTER, "File containing the token").variable("K3S_TOKEN_FILE"),
    value("write-kubeconfig", CLIENT, "Write the kubeconfig of the administrator to this file")
        .short('o')
        .variable("K3S_KUBECONFIG_OUTPUT"),
    value("write-kubeconfig-mode", CLIENT, "Mode of that file [default: 0600]").variable("K3S_KUBECONFIG_MODE"),
    list("kube-apiserver-arg", CUSTOMIZED, "Customized flag for the API server: token-auth-file=FILE"),
    list("disable", COMPONENTS, "Do not deploy packaged components, and delete any deployed ones: coredns"),
    switch("disable-scheduler", COMPONENTS, "Disable the scheduler"),
    switch("disable-controller-manager", COMPONENTS, "Disable the controllers"),
    switch("disable-agent", COMPONENTS, "Do not run a node in this server"),
    value("node-name", NODE, "Node name [default: the host's name]").variable("K3S_NODE_NAME"),
    list("node-label", NODE, "Labels to register the node with"),
    list("node-taint", NODE, "Taints to register the node with"),
    value("node-ip", AGENT_NETWORKING, "Address to advertise for the node").short('i'),
    value("resolv-conf", AGENT_NETWORKING, "resolv.conf file of pods with the node's DNS").variable("K3S_RESOLV_CONF"),
    switch("rootless", EXPERIMENTAL, "Run rootless").variable("K3S_ROOTLESS"),
];
