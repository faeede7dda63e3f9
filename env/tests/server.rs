//! What flags come to in the typed configuration.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use k3s_env::{AuthorizationArguments, AuthorizationMode, AuthorizationWebhookArguments, LogFormat, NodeTaint, Server};

fn resolve(args: &[&str]) -> Server {
    let variable = |name: &str| match name {
        "HOME" => Some("/home/edge".to_owned()),
        "K3S_LOG_FORMAT" => Some("json".to_owned()),
        _ => None,
    };
    Server::resolve(args.iter().map(OsString::from), variable, Path::new("/nonexistent/config.yaml"))
        .unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

#[test]
fn defaults_are_those_of_k3s() {
    let server = resolve(&[]);
    assert_eq!(server.data_dir.root(), Path::new("/var/lib/rancher/k3s"));
    assert_eq!(server.kubeconfig.path, Path::new("/etc/rancher/k3s/k3s.yaml"));
    assert_eq!((server.kubeconfig.mode, server.kubeconfig.group), (0o600, None));
    assert_eq!((server.listener.port, server.listener.advertise_port), (6443, 6443));
    assert_eq!(server.listener.bind_address.to_string(), "0.0.0.0");
    assert_eq!(server.network.cluster_cidr.to_string(), "10.42.0.0/16");
    assert_eq!(server.network.service_cidr.to_string(), "10.43.0.0/16");
    assert_eq!(server.network.cluster_dns.to_string(), "10.43.0.10");
    assert_eq!(server.network.node_ports, 30000..=32767);
    assert_eq!(server.datastore.endpoint, None);
    assert!(!server.disable_agent && !server.disable_scheduler && !server.rootless);
    assert_eq!(server.logging.format, LogFormat::Json);
    assert!(server.warnings.is_empty());
}

#[test]
fn rootless_lives_in_the_home() {
    let server = resolve(&["--rootless"]);
    assert_eq!(server.data_dir.root(), Path::new("/home/edge/.rancher/k3s"));
    assert_eq!(server.kubeconfig.path, Path::new("/home/edge/.kube/k3s.yaml"));
    assert!(!resolve(&["--rootless=false"]).rootless);
}

#[test]
fn what_follows_from_another_flag_follows_it() {
    assert_eq!(resolve(&["--service-cidr=10.9.0.0/24"]).network.cluster_dns.to_string(), "10.9.0.10");
    assert_eq!(resolve(&["--https-listen-port=7443"]).listener.advertise_port, 7443);
}

#[test]
fn a_node_is_described_whole() {
    let node = resolve(&[
        "--node-name=edge-1",
        "--with-node-id",
        "--node-label=a=1,b=2",
        "--node-taint=k=v:NoExecute",
        "--node-ip=10.0.0.5",
        "--node-external-ip=192.0.2.1,192.0.2.2",
        "--resolv-conf=/etc/resolv.pods",
        "--kubelet-arg=max-pods=20",
        "--kubelet-arg=--seccomp-default=true",
        "--kubelet-arg=container-log-max-size=1Mi",
        "--kubelet-arg=container-log-max-files=3",
    ])
    .node;
    assert_eq!((node.name.as_deref(), node.with_id), (Some("edge-1"), true));
    assert_eq!(node.labels, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    let taint = NodeTaint { key: "k".into(), value: Some("v".into()), effect: "NoExecute".into() };
    assert_eq!(node.taints, [taint]);
    assert_eq!((node.ips.len(), node.external_ips.len()), (1, 2));
    assert_eq!(node.resolv_conf.as_deref(), Some(Path::new("/etc/resolv.pods")));
    assert_eq!((node.kubelet.max_pods, node.kubelet.seccomp_default), (Some(20), Some(true)));
    assert_eq!((node.kubelet.container_log_max_size, node.kubelet.container_log_max_files), (Some(1 << 20), Some(3)));
}

#[test]
fn flags_of_the_api_server_are_passed_on() {
    let api = resolve(&[
        "--kube-apiserver-arg=token-auth-file=/a.csv",
        "--kube-apiserver-arg=service-account-issuer=https://a",
        "--kube-apiserver-arg=service-account-issuer=https://b",
        "--kube-apiserver-arg=api-audiences=x,y",
        "--kube-apiserver-arg=encryption-provider-config=/e.yaml",
        "--kube-apiserver-arg=encryption-provider-config-automatic-reload=true",
        "--kube-apiserver-arg=max-requests-inflight=100",
        "--kube-apiserver-arg=request-timeout=30s",
        "--kube-apiserver-arg=audit-policy-file=/p.yaml",
        "--kube-apiserver-arg=audit-log-path=/a.log",
        "--kube-apiserver-arg=audit-log-maxsize=5",
        "--kube-apiserver-arg=audit-log-mode=batch",
        "--kube-apiserver-arg=audit-webhook-config-file=/w.yaml",
        "--kube-apiserver-arg=audit-webhook-batch-throttle-qps=2.5",
        "--kube-apiserver-arg=audit-webhook-truncate-enabled=true",
        "--kube-apiserver-arg=audit-webhook-truncate-max-event-size=500",
        "--kube-apiserver-arg=authorization-mode=Webhook,RBAC",
        "--kube-apiserver-arg=authorization-webhook-config-file=/a.yaml",
        "--kube-apiserver-arg=authorization-webhook-cache-authorized-ttl=1m",
    ])
    .api_server;
    assert_eq!(api.token_auth_file.as_deref(), Some(Path::new("/a.csv")));
    assert_eq!(api.service_account_issuers, ["https://a", "https://b"]);
    assert_eq!(api.audiences, ["x", "y"]);
    assert_eq!((api.max_requests_inflight, api.max_mutating_requests_inflight), (Some(100), None));
    assert_eq!(api.request_timeout, Some(Duration::from_secs(30)));
    assert_eq!(api.audit.policy_file.as_deref(), Some(Path::new("/p.yaml")));
    assert_eq!(api.audit.log_path.as_deref(), Some(Path::new("/a.log")));
    assert_eq!((api.audit.max_size, api.audit.mode.as_deref()), (Some(5), Some("batch")));
    let webhook = api.audit.webhook.expect("a webhook");
    assert_eq!((webhook.config_file.as_path(), webhook.qps), (Path::new("/w.yaml"), Some(2.5)));
    assert_eq!(webhook.truncate.expect("limits").max_event_size, Some(500));
    let webhook = AuthorizationWebhookArguments {
        config_file: "/a.yaml".into(),
        authorized_ttl: Some(Duration::from_secs(60)),
        ..AuthorizationWebhookArguments::default()
    };
    let modes = vec![AuthorizationMode::Webhook(webhook), AuthorizationMode::Rbac];
    assert_eq!(api.authorization, AuthorizationArguments::Modes(modes));
    assert_eq!((api.encryption_provider_config.as_deref(), api.reload_encryption), (Some(Path::new("/e.yaml")), true));
}

#[test]
fn secrets_are_encrypted_if_asked_for() {
    assert_eq!(resolve(&[]).secrets_encryption, None);
    assert_eq!(resolve(&["--secrets-encryption"]).secrets_encryption.as_deref(), Some("aescbc"));
    let args = ["--secrets-encryption", "--secrets-encryption-provider=secretbox"];
    assert_eq!(resolve(&args).secrets_encryption.as_deref(), Some("secretbox"));
}

#[test]
fn a_token_comes_from_the_flag_or_from_a_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "secret\n").expect("a file");
    let by_file = format!("--token-file={}", file.path().display());
    assert_eq!(resolve(&[&by_file]).token.as_deref(), Some("secret"));
    assert_eq!(resolve(&[&by_file, "--token=flag"]).token.as_deref(), Some("flag"));
}

#[test]
fn the_datastore_is_resolved_with_its_tls() {
    let args = [
        "--datastore-endpoint=postgres://a/b",
        "--datastore-cafile=/ca",
        "--datastore-certfile=/c",
        "--datastore-keyfile=/k",
    ];
    let datastore = resolve(&args).datastore;
    assert_eq!(datastore.endpoint.as_deref(), Some("postgres://a/b"));
    let files = [datastore.ca_file, datastore.cert_file, datastore.key_file].map(Option::unwrap_or_default);
    assert_eq!(files, ["/ca", "/c", "/k"].map(std::path::PathBuf::from));
}
