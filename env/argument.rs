//! Flags of single components, which `--kube-apiserver-arg`, `--kubelet-arg` and the like pass on.

use crate::flag::Support;

/// A flag of a component.
#[derive(Debug)]
pub struct Argument {
    /// The flag of k3s that passes it on.
    pub through: &'static str,
    pub name: &'static str,
    /// Values that ask for nothing but what holds anyway.
    pub holds: &'static [&'static str],
    pub support: Support,
    pub help: &'static str,
}

const API_SERVER: &str = "kube-apiserver-arg";
const KUBELET: &str = "kubelet-arg";

const fn whole(through: &'static str, name: &'static str, help: &'static str) -> Argument {
    Argument { through, name, holds: &[], support: Support::Whole, help }
}

const fn refused(name: &'static str, holds: &'static [&'static str], why: &'static str) -> Argument {
    Argument { through: API_SERVER, name, holds, support: Support::Refused(why), help: "" }
}

const AUDIT: &str = "this version writes no audit log; whoever counts on it would have none";
const ACCESS: &str = "who may do what would not be decided as is asked for";
const PLUGINS: &str = "admission plug-ins can't be chosen in this version";

/// What is known. Every other flag of a component is taken, has no effect, and is warned about.
pub static ALL: &[Argument] = &[
    whole(API_SERVER, "token-auth-file", "CSV file of tokens, users, uids and groups"),
    whole(
        API_SERVER,
        "service-account-issuer",
        "issuer of service account tokens; several times: more that are accepted",
    ),
    whole(API_SERVER, "service-account-key-file", "PEM file with more keys that tokens may be signed with"),
    whole(API_SERVER, "api-audiences", "audiences of tokens, separated by commas"),
    refused("anonymous-auth", &["false"], "nobody is anonymous here, as in k3s"),
    refused("authorization-mode", &["Node,RBAC", "RBAC,Node"], ACCESS),
    refused("authorization-config", &[], ACCESS),
    refused("authorization-webhook-config-file", &[], ACCESS),
    refused("admission-control-config-file", &[], PLUGINS),
    refused("enable-admission-plugins", &["NodeRestriction"], PLUGINS),
    refused("disable-admission-plugins", &[], PLUGINS),
    whole(API_SERVER, "encryption-provider-config", "EncryptionConfiguration file: what is stored encrypted, and how"),
    whole(
        API_SERVER,
        "encryption-provider-config-automatic-reload",
        "true: changes of that file take effect within a minute",
    ),
    refused("audit-policy-file", &[], AUDIT),
    refused("audit-log-path", &[], AUDIT),
    refused("audit-webhook-config-file", &[], AUDIT),
    whole(KUBELET, "max-pods", "how many pods the node takes"),
    whole(KUBELET, "seccomp-default", "true: pods that ask for no seccomp profile get the runtime's default one"),
    whole(KUBELET, "container-log-max-size", "size at which a container's log is rotated, such as 10Mi"),
    whole(KUBELET, "container-log-max-files", "how many files a container's log has at most"),
];

/// The row of a flag of a component.
pub fn find(through: &str, name: &str) -> Option<&'static Argument> {
    ALL.iter().find(|argument| argument.through == through && argument.name == name)
}
