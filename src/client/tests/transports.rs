//! Both transports, by function call and by TLS, against the same API server: whatever holds for one holds for the
//! other, the caller's identity and what it may do included.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k3s_api::authentication::UserInfo;
use k3s_apiserver::authentication::Authenticated;
use k3s_apiserver::{ApiServer, Config, bootstrap, serve};
use k3s_client::{Change, Credentials, Informers, in_process, remote};
use k3s_kine::sqlite::{Options, Sqlite};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

/// An API server behind TLS, with an authority that signs its certificate and those of its clients.
struct Server {
    api: ApiServer,
    port: u16,
    authority: Issuer<'static, KeyPair>,
    authority_der: Vec<u8>,
    cancel: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let datastore = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().der().clone();
        let authority = Issuer::new(parameters, key);
        let mut config = Config::new(datastore, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let tokens = folder.path().join("tokens.csv");
        std::fs::write(&tokens, "jane-token,jane,2\n").unwrap();
        config.authentication.token_file = Some(tokens);
        config.authentication.client_ca = vec![certificate.clone()];
        config.authentication.service_account_signing_key =
            Some(KeyPair::generate().unwrap().serialize_pem().into_bytes());
        let api = ApiServer::start(config).await.unwrap();
        bootstrap::run(&api).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (own, own_key) = issue(&authority, "server", "");
        let own_key = PrivatePkcs8KeyDer::from(own_key.serialize_der()).into();
        let signing = rustls::crypto::ring::sign::any_supported_type(&own_key).unwrap();
        let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![own.der().clone()], signing)));
        let tls = serve::tls(resolver, api.authenticator().client_ca_names()).unwrap();
        let cancel = CancellationToken::new();
        let service = Authenticated::new(api.clone());
        tokio::spawn(serve::serve(vec![listener], tls, service, serve::Limits::default(), cancel.clone()));
        Self { api, port, authority, authority_der: certificate.to_vec(), cancel, _folder: folder }
    }

    fn remote(&self, credentials: Credentials) -> Client {
        let url = format!("https://127.0.0.1:{}", self.port).parse().unwrap();
        remote(url, vec![self.authority_der.clone()], credentials).unwrap()
    }

    /// The same user by both transports.
    fn clients(&self, name: &str, group: &str) -> [(&'static str, Client); 2] {
        let (certificate, key) = issue(&self.authority, name, group);
        let credentials = Credentials::Certificate { chain: certificate.pem(), key: key.serialize_pem() };
        let groups: &[&str] = if group.is_empty() { &[] } else { &[group] };
        [
            ("in process", in_process(self.api.clone(), UserInfo::new(name, groups))),
            ("remote", self.remote(credentials)),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.api.stop();
        self.cancel.cancel();
    }
}

fn issue(authority: &Issuer<'static, KeyPair>, name: &str, group: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    if !group.is_empty() {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    (parameters.signed_by(&key, authority).unwrap(), key)
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}})).unwrap()
}

async fn who(client: &Client) -> (String, Vec<String>) {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .unwrap();
    let user = review.status.and_then(|status| status.user_info).unwrap();
    (user.username.unwrap_or_default(), user.groups.unwrap_or_default())
}

#[tokio::test]
async fn the_server_knows_who_calls() {
    let server = Server::start().await;
    for (transport, client) in server.clients("ann", "system:masters") {
        let (name, groups) = who(&client).await;
        assert_eq!(name, "ann", "{transport}");
        assert!(groups.contains(&"system:masters".to_owned()), "{transport}: {groups:?}");
    }
    assert_eq!(who(&server.remote(Credentials::Token("jane-token".into()))).await.0, "jane");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "jane-token").unwrap();
    assert_eq!(who(&server.remote(Credentials::TokenFile(file.path().into()))).await.0, "jane");
}

#[tokio::test]
async fn objects_are_written_read_and_deleted() {
    let server = Server::start().await;
    for (transport, client) in server.clients("ann", "system:masters") {
        let maps = Api::<ConfigMap>::default_namespaced(client);
        let made = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
        assert!(made.uid().is_some(), "{transport}");
        let patch = Patch::Merge(json!({"data": {"b": "2"}}));
        maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
        let read = maps.get("a").await.unwrap();
        assert_eq!(read.data.map(|data| data.len()), Some(2), "{transport}");
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(maps.get_opt("a").await.unwrap().is_none(), "{transport}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_alike() {
    let server = Server::start().await;
    let mut answers = Vec::new();
    for (_, client) in server.clients("bob", "") {
        match Api::<Secret>::all(client).list(&Default::default()).await {
            Err(kube::Error::Api(status)) => answers.push((status.code, status.message.clone())),
            other => panic!("a refusal was expected, not {other:?}"),
        }
    }
    assert_eq!(answers[0].0, 403);
    assert_eq!(answers[0], answers[1]);
    let stranger = server.remote(Credentials::Token("no-such-token".into()));
    let answer = Api::<Namespace>::all(stranger).list(&Default::default()).await;
    assert!(matches!(answer, Err(kube::Error::Api(status)) if status.code == 401));
}

#[tokio::test]
async fn informers_see_what_happens() {
    let server = Server::start().await;
    for (transport, client) in server.clients("ann", "system:masters") {
        let informers = Informers::new(client.clone());
        let maps = informers.of::<ConfigMap>();
        tokio::time::timeout(LIMIT, maps.synced()).await.expect("the first list");
        let mut changes = maps.subscribe();
        let api = Api::<ConfigMap>::default_namespaced(client);
        let name = format!("seen-{}", transport.replace(' ', "-"));
        api.create(&PostParams::default(), &config_map(&name)).await.unwrap();
        let seen = async {
            loop {
                match changes.next().await {
                    Some(Change::Applied(map)) if map.name_any() == name => return,
                    Some(_) => {}
                    None => panic!("{transport}: the informers have ended"),
                }
            }
        };
        tokio::time::timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("{transport}: no event"));
        assert!(maps.get(Some("default"), &name).is_some(), "{transport}");
    }
}

#[tokio::test]
async fn applied_objects_are_watched_and_told_of_conflicts() {
    let server = Server::start().await;
    for (transport, client) in server.clients("ann", "system:masters") {
        let maps = Api::<ConfigMap>::default_namespaced(client);
        let name = format!("applied-{}", transport.replace(' ', "-"));
        let configuration = |value: &str| {
            Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                "data": {"a": value}}))
        };
        let selected = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = pin!(watcher(maps.clone(), selected.streaming_lists()).applied_objects());
        maps.patch(&name, &PatchParams::apply("one"), &configuration("1")).await.unwrap();
        let seen = tokio::time::timeout(LIMIT, events.next()).await.expect("an event").unwrap().unwrap();
        assert_eq!(seen.data.unwrap()["a"], "1", "{transport}");
        match maps.patch(&name, &PatchParams::apply("two"), &configuration("2")).await {
            Err(kube::Error::Api(status)) => {
                assert_eq!(status.code, 409, "{transport}");
                assert_eq!(
                    status.message, "Apply failed with 1 conflict: conflict with \"one\": .data.a",
                    "{transport}"
                );
            }
            other => panic!("{transport}: a conflict was expected, not {other:?}"),
        }
        let forced = maps.patch(&name, &PatchParams::apply("two").force(), &configuration("2")).await.unwrap();
        let owners: Vec<_> = forced.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect();
        assert_eq!(owners, ["two"], "{transport}");
        let seen = tokio::time::timeout(LIMIT, events.next()).await.expect("an event").unwrap().unwrap();
        assert_eq!(seen.data.unwrap()["a"], "2", "{transport}");
        let listed = maps.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await.unwrap();
        assert_eq!(listed.items.len(), 1, "{transport}");
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_talked_to() {
    let server = Server::start().await;
    let other = Server::start().await;
    let url = format!("https://127.0.0.1:{}", server.port).parse().unwrap();
    let client = remote(url, vec![other.authority_der.clone()], Credentials::Token("jane-token".into())).unwrap();
    let error = client.apiserver_version().await.unwrap_err();
    assert!(!matches!(error, kube::Error::Api(_)), "{error}");
}

#[test]
fn what_is_no_certificate_is_refused() {
    let credentials = Credentials::Certificate { chain: "no certificate".into(), key: "no key".into() };
    let error = remote("https://127.0.0.1:1".parse().unwrap(), Vec::new(), credentials).err().unwrap();
    assert!(error.to_string().contains("https://127.0.0.1:1"), "{error}");
    assert!(!error.to_string().contains("no key"), "{error}");
}
