//! Flags of the node, which servers have too, and what is experimental.

use super::Subcommand::{Agent, Server};
use super::{Flag, Type};

const CLUSTER: &str = "cluster";
const NODE: &str = "agent/node";
const RUNTIME: &str = "agent/runtime";
const CONTAINERD: &str = "agent/containerd";
const NETWORKING: &str = "agent/networking";
const COMPONENTS: &str = "agent/flags";
const ENCRYPTION: &str = "secrets-encryption";
const EXPERIMENTAL: &str = "experimental";

const ONE_NODE: &str = "this version has one node, so there is no traffic between nodes";
const NO_PROVIDERS: &str = "this version takes registries' passwords from pull secrets and registries.yaml only";
const OWN_RUNTIME: &str =
    "the container runtime is k3s's own in this version; containers would not run where is asked for";
const NO_VPN: &str = "this version has no VPN; traffic would not go the way that is asked for";

pub static FLAGS: &[Flag] = &[
    Flag::new("server", Type::Url, CLUSTER, "Server to join, such as https://k3s.example.org:6443")
        .short('s')
        .variable("K3S_URL")
        .only(Agent),
    Flag::new("node-name", Type::NodeName, NODE, "Name of the node; without it the host's, in lower case")
        .variable("K3S_NODE_NAME"),
    Flag::new("with-node-id", Type::Switch, NODE, "Add an id to the node's name, made once"),
    Flag::new("node-label", Type::Label, NODE, "Labels that the node registers with").repeatable(),
    Flag::new("node-taint", Type::Taint, NODE, "Taints that the node registers with").repeatable(),
    Flag::new(
        "image-credential-provider-bin-dir",
        Type::Path,
        NODE,
        "Folder of programs that know registries' passwords",
    )
    .default("/var/lib/rancher/credentialprovider/bin")
    .ignored(NO_PROVIDERS),
    Flag::new("image-credential-provider-config", Type::Path, NODE, "Configuration of those programs")
        .default("/var/lib/rancher/credentialprovider/config.yaml")
        .ignored(NO_PROVIDERS),
    Flag::new("selinux", Type::Switch, NODE, "Confine containers by SELinux")
        .variable("K3S_SELINUX")
        .refused("containers would not be confined in this version"),
    Flag::new("lb-server-port", Type::Port, NODE, "Local port of the load balancer towards servers")
        .default("6444")
        .variable("K3S_LB_SERVER_PORT")
        .ignored("a server's own node needs no load balancer"),
    Flag::new(
        "protect-kernel-defaults",
        Type::Switch,
        NODE,
        "Do not change the kernel's settings; fail if they are not as the kubelet wants them",
    ),
    Flag::new("container-runtime-endpoint", Type::Path, RUNTIME, "Use the container runtime at this CRI socket")
        .refused(OWN_RUNTIME),
    Flag::new("default-runtime", Type::Text, RUNTIME, "Runtime of pods that name none")
        .ignored("there is one runtime in this version"),
    Flag::new("image-service-endpoint", Type::Path, RUNTIME, "Use the image service at this CRI socket")
        .refused(OWN_RUNTIME),
    Flag::new("pause-image", Type::Text, RUNTIME, "Image of the container that holds a pod's namespaces")
        .default("rancher/mirrored-pause:3.6")
        .ignored("pods need no such container here"),
    Flag::new(
        "snapshotter",
        Type::Text,
        RUNTIME,
        "How containers' file systems are made of images: overlayfs (fuse-overlayfs or copies, where the kernel mounts no overlay), fuse-overlayfs or native (copies)",
    )
    .default("overlayfs"),
    Flag::new("private-registry", Type::Path, RUNTIME, "File with mirrors and credentials of registries")
        .default("/etc/rancher/k3s/registries.yaml"),
    Flag::new("system-default-registry", Type::Text, RUNTIME, "Registry of all images of the system")
        .variable("K3S_SYSTEM_DEFAULT_REGISTRY")
        .only(Server)
        .ignored("images of the system are made of the k3s binary itself"),
    Flag::new("airgap-extra-registry", Type::Text, RUNTIME, "More registries to name imported images after")
        .repeatable()
        .hidden()
        .ignored("imported images have the names that stand in their archives"),
    Flag::new("docker", Type::Switch, RUNTIME, "Use Docker").refused(OWN_RUNTIME),
    Flag::new(
        "disable-default-registry-endpoint",
        Type::Switch,
        CONTAINERD,
        "Pull from the mirrors of a registry only, not from the registry itself",
    ),
    Flag::new("nonroot-devices", Type::Switch, CONTAINERD, "Let containers of ordinary users use their devices")
        .ignored("devices keep their owners"),
    Flag::new("node-ip", Type::Address, NETWORKING, "Addresses of the node; without it that of the default route")
        .short('i')
        .repeatable(),
    Flag::new("node-external-ip", Type::Address, NETWORKING, "Addresses of the node for the world outside")
        .repeatable(),
    Flag::new("node-internal-dns", Type::Text, NETWORKING, "Host names of the node")
        .repeatable()
        .ignored("the node tells its addresses and its host name only"),
    Flag::new("node-external-dns", Type::Text, NETWORKING, "Host names of the node for the world outside")
        .repeatable()
        .ignored("the node tells its addresses and its host name only"),
    Flag::new("resolv-conf", Type::Path, NETWORKING, "The resolv.conf that pods inherit from; without it the host's")
        .variable("K3S_RESOLV_CONF"),
    Flag::new("flannel-iface", Type::Text, NETWORKING, "Interface towards other nodes").ignored(ONE_NODE),
    Flag::new("flannel-conf", Type::Path, NETWORKING, "Configuration of flannel").ignored(ONE_NODE),
    Flag::new("flannel-cni-conf", Type::Path, NETWORKING, "Configuration of flannel's CNI plugin")
        .ignored("pods are attached to the network without CNI plugins"),
    Flag::new("vpn-auth", Type::Text, NETWORKING, "Provider and key of a VPN between nodes")
        .variable("K3S_VPN_AUTH")
        .refused(NO_VPN),
    Flag::new("vpn-auth-file", Type::Path, NETWORKING, "File with provider and key of a VPN between nodes")
        .variable("K3S_VPN_AUTH_FILE")
        .refused(NO_VPN),
    Flag::new(
        "disable-apiserver-lb",
        Type::Switch,
        NETWORKING,
        "Speak to the given server only, without load balancer",
    )
    .only(Agent)
    .ignored("joining is not available in this version"),
    Flag::new("kubelet-arg", Type::Argument, COMPONENTS, "Flag for the kubelet").repeatable(),
    Flag::new("kube-proxy-arg", Type::Argument, COMPONENTS, "Flag for the service proxy").repeatable(),
    Flag::new("secrets-encryption", Type::Switch, ENCRYPTION, "Store secrets encrypted").only(Server),
    Flag::new(
        "secrets-encryption-provider",
        Type::OneOf(&["aescbc", "secretbox"]),
        ENCRYPTION,
        "Cipher of stored secrets: aescbc or secretbox",
    )
    .default("aescbc")
    .only(Server),
    Flag::new("enable-pprof", Type::Switch, EXPERIMENTAL, "Serve profiles of the running process")
        .ignored("profiles are Go's"),
    Flag::new("rootless", Type::Switch, EXPERIMENTAL, "Run as an ordinary user, in namespaces of its own")
        .variable("K3S_ROOTLESS"),
    Flag::new("prefer-bundled-bin", Type::Switch, EXPERIMENTAL, "Prefer k3s's own programs to the host's")
        .moot("there are no bundled programs besides k3s itself"),
    Flag::new("disable-selinux", Type::Switch, NODE, "What is now the default")
        .hidden()
        .moot("containers are not confined by SELinux"),
];
