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

const ABAC: &str = "a file of policies is not read; use RBAC or a webhook";
const VERSION: &str = "audit events are of audit.k8s.io/v1";
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
    whole(API_SERVER, "oidc-issuer-url", "OpenID provider whose tokens are accepted; goes with oidc-client-id"),
    whole(API_SERVER, "oidc-client-id", "for whom its tokens must be"),
    whole(API_SERVER, "oidc-username-claim", "what names the user (sub)"),
    whole(
        API_SERVER,
        "oidc-username-prefix",
        "before that name; `-` for nothing (the issuer and #, but not for email)",
    ),
    whole(API_SERVER, "oidc-groups-claim", "what names the user's groups"),
    whole(API_SERVER, "oidc-groups-prefix", "before those names"),
    whole(API_SERVER, "oidc-required-claim", "name=value that tokens must have; several times"),
    whole(API_SERVER, "oidc-signing-algs", "RS256 or ES256 or both, separated by a comma (RS256)"),
    whole(API_SERVER, "oidc-ca-file", "PEM file of who signs the provider's certificate (the host's authorities)"),
    whole(
        API_SERVER,
        "authentication-token-webhook-config-file",
        "kubeconfig of the server that judges tokens which nothing else knows",
    ),
    whole(API_SERVER, "authentication-token-webhook-cache-ttl", "how long a judgement holds (2m0s)"),
    whole(API_SERVER, "authentication-token-webhook-version", "v1 or v1beta1 (v1beta1)"),
    refused("authentication-config", &[], "the flags of OpenID and of the token webhook say the same"),
    refused("anonymous-auth", &["false"], "nobody is anonymous here, as in k3s"),
    whole(
        API_SERVER,
        "authorization-mode",
        "who is asked, in this order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny (Node,RBAC)",
    ),
    whole(
        API_SERVER,
        "authorization-config",
        "AuthorizationConfiguration file that says it instead; changes take effect",
    ),
    whole(API_SERVER, "authorization-webhook-config-file", "kubeconfig of the server that mode Webhook asks"),
    whole(API_SERVER, "authorization-webhook-version", "v1 or v1beta1 (v1beta1)"),
    whole(API_SERVER, "authorization-webhook-cache-authorized-ttl", "how long a yes holds (5m0s)"),
    whole(API_SERVER, "authorization-webhook-cache-unauthorized-ttl", "how long everything else holds (30s)"),
    refused("authorization-policy-file", &[], ABAC),
    refused("admission-control-config-file", &[], PLUGINS),
    refused("enable-admission-plugins", &["NodeRestriction"], PLUGINS),
    refused("disable-admission-plugins", &[], PLUGINS),
    whole(API_SERVER, "encryption-provider-config", "EncryptionConfiguration file: what is stored encrypted, and how"),
    whole(
        API_SERVER,
        "encryption-provider-config-automatic-reload",
        "true: changes of that file take effect within a minute",
    ),
    whole(API_SERVER, "max-requests-inflight", "requests at a time, of which priority levels have their shares (400)"),
    whole(API_SERVER, "max-mutating-requests-inflight", "what is added to that (200)"),
    refused("enable-priority-and-fairness", &["true"], "requests are always limited by priority levels"),
    whole(API_SERVER, "request-timeout", "how long a request may take that is no watch or other stream (1m0s)"),
    whole(
        API_SERVER,
        "audit-policy-file",
        "audit.k8s.io/v1 Policy: what is logged; goes with audit-log-path or audit-webhook-config-file",
    ),
    whole(API_SERVER, "audit-log-path", "the audit log's file; `-` for standard output"),
    whole(API_SERVER, "audit-log-maxsize", "megabytes at which it is put aside (100)"),
    whole(API_SERVER, "audit-log-maxbackup", "how many old files are kept (0: all)"),
    whole(API_SERVER, "audit-log-maxage", "how many days they are kept (0: for ever)"),
    whole(API_SERVER, "audit-log-compress", "true: old files are compressed"),
    whole(API_SERVER, "audit-log-format", "json or legacy"),
    whole(API_SERVER, "audit-log-mode", "blocking (the default), blocking-strict or batch"),
    whole(API_SERVER, "audit-log-batch-buffer-size", "events that may wait in batch mode (10000)"),
    whole(API_SERVER, "audit-log-truncate-enabled", "true: events that are too long are cut or left out"),
    whole(API_SERVER, "audit-log-truncate-max-event-size", "bytes of an event (102400)"),
    whole(API_SERVER, "audit-webhook-config-file", "kubeconfig of the server that audit events are delivered to"),
    whole(API_SERVER, "audit-webhook-mode", "batch (the default), blocking or blocking-strict"),
    whole(API_SERVER, "audit-webhook-batch-buffer-size", "events that may wait (10000)"),
    whole(API_SERVER, "audit-webhook-batch-max-size", "events that are delivered together (400)"),
    whole(API_SERVER, "audit-webhook-batch-max-wait", "how long the first of them waits for others (30s)"),
    whole(API_SERVER, "audit-webhook-batch-throttle-enable", "false: as often as there is something to deliver"),
    whole(API_SERVER, "audit-webhook-batch-throttle-qps", "deliveries per second (10)"),
    whole(API_SERVER, "audit-webhook-batch-throttle-burst", "deliveries at once after a quiet time (15)"),
    whole(API_SERVER, "audit-webhook-initial-backoff", "pause after the first failure; of five attempts (10s)"),
    whole(API_SERVER, "audit-webhook-truncate-enabled", "true: events that are too long are cut or left out"),
    whole(API_SERVER, "audit-webhook-truncate-max-batch-size", "bytes that are delivered together (10485760)"),
    whole(API_SERVER, "audit-webhook-truncate-max-event-size", "bytes of an event (102400)"),
    refused("audit-log-version", &["audit.k8s.io/v1"], VERSION),
    refused("audit-webhook-version", &["audit.k8s.io/v1"], VERSION),
    whole(KUBELET, "max-pods", "how many pods the node takes"),
    whole(KUBELET, "seccomp-default", "true: pods that ask for no seccomp profile get the runtime's default one"),
    whole(KUBELET, "container-log-max-size", "size at which a container's log is rotated, such as 10Mi"),
    whole(KUBELET, "container-log-max-files", "how many files a container's log has at most"),
];

/// The row of a flag of a component.
pub fn find(through: &str, name: &str) -> Option<&'static Argument> {
    ALL.iter().find(|argument| argument.through == through && argument.name == name)
}
