//! Datastore, API server, controllers, scheduler and what deploys manifests.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use k3s_addons::{coredns, runtimes};
use k3s_api::authentication::UserInfo;
use k3s_apiserver::authentication::Authenticated;
use k3s_apiserver::encryption::Encryption;
use k3s_apiserver::relay::ClientCertificate;
use k3s_apiserver::{ApiServer, bootstrap, serve};
use k3s_client::Informers;
use k3s_env::Server;
use k3s_kine::endpoint::{self, Opened};
use k3s_kine::grpc::{self, Address, Listener};
use k3s_kine::{Datastore, tls};
use k3s_supervisor::bootstrap::{Files, SharedFiles};
use k3s_supervisor::manifests::{self, Deployer};
use k3s_supervisor::{Names, Tls, Token, private_dir};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api_arguments;
use super::certificate::{self, Served};
use super::host::Host;
use super::reload::Source;
use super::{identity, kubeconfig, role};

/// The running control plane.
pub struct ControlPlane {
    pub api: ApiServer,
    pub tls: Tls,
    /// The kubelet's certificate.
    pub serving_kubelet: Arc<Served>,
    serving_kube_apiserver: Arc<Served>,
    names: Names,
    datastore: Opened,
    tasks: JoinSet<()>,
    serving: tokio::task::JoinHandle<Result<(), serve::Error>>,
    /// Ends the listener, after the components that use it.
    stop_serving: CancellationToken,
}

impl ControlPlane {
    /// Starts everything; the API is served and the kubeconfig written when it returns.
    ///
    /// # Errors
    /// What could not be started, and why.
    pub async fn start(config: &Server, host: &Host, cancel: CancellationToken) -> anyhow::Result<Self> {
        let data = &config.data_dir;
        data.create()?;
        // The database first: SQLite's lock keeps a second server off everything else.
        let options = datastore(config);
        let datastore = endpoint::open(&options).await?;
        // SQLite is one server's own; any other datastore is there for several.
        let shared = match options.sqlite_path()? {
            Some(_) => None,
            None => {
                let files = Files::new(&data.server_tls(), &data.encryption_config());
                Some(SharedFiles::take(datastore.store.clone(), files, data.token(), config.token.as_deref()).await?)
            }
        };
        let service_ip = config.network.service_cidr.hosts().next().context("--service-cidr has no addresses")?;
        let names = Names {
            node_name: host.node_name.clone(),
            node_ips: host.node_ips.clone(),
            service_ip,
            cluster_domain: config.network.cluster_domain.clone(),
            extra: extra_names(config),
        };
        let password = config.token.as_deref().or(shared.as_ref().map(SharedFiles::password));
        let load = || -> anyhow::Result<Tls> {
            let tls = Tls::load_or_create(&data.server_tls(), &data.agent(), &names)?;
            Token::load_or_create(&data.token(), password, tls.server_ca.certificate())?;
            Ok(tls)
        };
        let mut tls = load()?;
        let encryption_config = encryption_config(config)?;
        if let Some(shared) = &shared
            && shared.give().await?
        {
            tls = load()?;
        }

        let listeners = host.api_listeners(config)?;
        let mut settings = api_config(config, host, &tls, datastore.store.clone())?;
        settings.datastore_metrics = Some(datastore.metrics().clone());
        let followed = encryption(config, encryption_config, &mut settings)?;
        let api = ApiServer::start(settings).await?;
        let serving_kube_apiserver = Served::new(&tls.serving_kube_apiserver)?;
        let serving_kubelet = Served::new(&tls.serving_kubelet)?;
        let server_tls = serve::tls(serving_kube_apiserver.clone(), api.authenticator().client_ca_names())?;
        let stop_serving = CancellationToken::new();
        let service = Authenticated::new(api.clone());
        let limits = serve::Limits::default();
        let serving = tokio::spawn(serve::serve(listeners, server_tls, service, limits, stop_serving.clone()));
        bootstrap::run(&api).await?;
        api.health().set_bootstrapped();
        kubeconfig::write(config, &tls)?;
        tracing::info!(port = config.listener.port, kubeconfig = %config.kubeconfig.path.display(), "API server is ready");

        let mut plane = Self {
            api,
            tls,
            serving_kubelet,
            serving_kube_apiserver,
            names,
            datastore,
            tasks: JoinSet::new(),
            serving,
            stop_serving,
        };
        plane.serve_etcd(config, cancel.clone()).await;
        if let Some(encryption) = followed {
            plane.tasks.spawn(encryption.follow(cancel.clone()));
        }
        plane.start_loops(config, host, &cancel).await?;
        Ok(plane)
    }

    /// A client that acts as `user`, by function calls.
    pub fn client(&self, user: UserInfo) -> kube::Client {
        k3s_client::in_process(self.api.clone(), user)
    }

    /// What can be read anew while the server runs.
    pub fn sources(&self, config: &Server) -> Vec<Source> {
        let mut sources = vec![self.certificates_source(config)];
        let given = &config.api_server;
        if given.token_auth_file.is_some() {
            let api = self.api.clone();
            sources.push(Source::new("the token file", move || Ok(api.authenticator().reload_tokens()?)));
        }
        if given.audit.policy_file.is_some() {
            let api = self.api.clone();
            sources.push(Source::new("the audit policy", move || Ok(api.reload_audit_policy()?)));
        }
        let encryption = Arc::clone(&self.api.config().encryption);
        if encryption.is_configured() {
            sources.push(Source::new("the encryption configuration", move || Ok(encryption.reload()?)));
        }
        sources
    }

    /// What the API server and the kubelet show. Those about to expire are renewed, as at start.
    fn certificates_source(&self, config: &Server) -> Source {
        let (config, names) = (config.clone(), self.names.clone());
        let (api_server, kubelet) = (Arc::clone(&self.serving_kube_apiserver), Arc::clone(&self.serving_kubelet));
        let authorities = authorities(&self.tls);
        Source::new("certificates", move || {
            let data = &config.data_dir;
            let tls = Tls::load_or_create(&data.server_tls(), &data.agent(), &names)?;
            ensure!(authorities == self::authorities(&tls), "an authority is another one now, which takes a restart");
            let new = (certificate::ready(&tls.serving_kube_apiserver)?, certificate::ready(&tls.serving_kubelet)?);
            api_server.exchange(new.0);
            kubelet.exchange(new.1);
            kubeconfig::write(&config, &tls)
        })
    }

    /// Serves the datastore to `etcdctl` and the like, on a socket for the server's user alone. It is for looking into a
    /// cluster, so the server runs without it as well.
    async fn serve_etcd(&mut self, config: &Server, cancel: CancellationToken) {
        let socket = config.data_dir.kine_socket();
        match Listener::bind(&Address::Unix(socket), None).await {
            Ok(listener) => {
                let datastore = self.datastore.store.clone();
                self.tasks.spawn(async move {
                    if let Err(error) = grpc::serve(datastore, listener, cancel).await {
                        tracing::warn!(%error, "the datastore's socket failed");
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "etcd's clients can't connect"),
        }
    }

    async fn start_loops(&mut self, config: &Server, host: &Host, cancel: &CancellationToken) -> anyhow::Result<()> {
        if !config.disable_controller_manager {
            let settings = k3s_controllers::Config {
                cluster_cidr: config.network.cluster_cidr,
                root_ca: self.tls.server_ca.certificate().to_owned(),
            };
            let informers = Informers::new(self.client(identity::controllers()));
            let (api, cancel) = (self.api.clone(), cancel.clone());
            let client_for = move |name: &str| k3s_client::in_process(api.clone(), identity::controller(name));
            self.tasks.spawn(async move { k3s_controllers::run(settings, informers, &client_for, cancel).await });
        }
        if !config.disable_scheduler {
            let informers = Informers::new(self.client(identity::scheduler()));
            self.tasks.spawn(k3s_scheduler::run(informers, cancel.clone()));
        }
        if !config.disable_controller_manager {
            let folder = config.data_dir.manifests();
            private_dir(&folder)?;
            let mut deployer = Deployer::new(self.client(identity::supervisor()), folder.clone());
            if config.disable.contains("coredns") {
                deployer.remove(coredns::MANIFEST_NAME).await?;
            } else {
                let text = coredns::manifest(config.network.cluster_dns, &config.network.cluster_domain);
                manifests::install(&folder, coredns::MANIFEST_NAME, &text)?;
            }
            manifests::install(&folder, runtimes::MANIFEST_NAME, &runtimes::manifest())?;
            self.tasks.spawn(deployer.run(cancel.clone()));
        }
        if !config.disable_agent {
            // A kubelet may not give itself a role.
            let informers = Informers::new(self.client(identity::supervisor()));
            self.tasks.spawn(role::label(informers, host.node_name.clone(), cancel.clone()));
        }
        Ok(())
    }

    /// Waits for the loops, which were cancelled, ends the API server and closes the datastore.
    ///
    /// # Errors
    /// The datastore's.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        while self.tasks.join_next().await.is_some() {}
        self.api.stop();
        self.stop_serving.cancel();
        self.serving.await??;
        self.api.close_audit().await;
        self.datastore.close().await?;
        Ok(())
    }
}

/// Which datastore the flags name.
fn datastore(config: &Server) -> endpoint::Options {
    let given = &config.datastore;
    endpoint::Options {
        endpoint: given.endpoint.clone().unwrap_or_default(),
        tls: tls::Files { ca: given.ca_file.clone(), cert: given.cert_file.clone(), key: given.key_file.clone() },
        sqlite_file: config.data_dir.state_db(),
        ..endpoint::Options::default()
    }
}

fn api_config(
    config: &Server,
    host: &Host,
    tls: &Tls,
    datastore: Arc<dyn Datastore>,
) -> anyhow::Result<k3s_apiserver::Config> {
    let external = config.node.external_ips.first().copied();
    let advertised = config.listener.advertise_address.or(external).unwrap_or(host.node_ip);
    let mut api = k3s_apiserver::Config::new(datastore, advertised);
    api.advertise_port = config.listener.advertise_port;
    api.service_cidrs = vec![config.network.service_cidr];
    api.node_ports = config.network.node_ports.clone();
    api.authentication.client_ca = certificates(tls.client_ca.certificate())?;
    api.authentication.request_header_ca = certificates(tls.request_header_ca.certificate())?;
    api.authentication.request_header_names = vec!["system:auth-proxy".to_owned()];
    api.authentication.service_account_signing_key = Some(tls.service_key.clone().into_bytes());
    api.relay.kubelet_client = Some(client_certificate(&tls.client_kube_apiserver)?);
    api.relay.front_proxy = Some(client_certificate(&tls.client_auth_proxy)?);
    api.relay.kubelet_ca = certificates(tls.server_ca.certificate())?;
    api.count_quotas = !config.disable_controller_manager;
    api.check_policies = !config.disable_controller_manager;
    api_arguments::apply(&config.api_server, &mut api)?;
    Ok(api)
}

/// The configuration of encryption at rest, made if it is asked for and not there.
fn encryption_config(config: &Server) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = &config.api_server.encryption_provider_config {
        return Ok(Some(path.clone()));
    }
    let own = config.data_dir.encryption_config();
    Ok(k3s_supervisor::encryption::load_or_create(&own, config.secrets_encryption.as_deref())?)
}

/// Has stored objects encrypted as the file at `path` says. Returns the configuration if it is to be followed.
fn encryption(
    config: &Server,
    path: Option<PathBuf>,
    api: &mut k3s_apiserver::Config,
) -> anyhow::Result<Option<Arc<Encryption>>> {
    let Some(path) = path else { return Ok(None) };
    api.encryption = Arc::new(Encryption::load(&path)?);
    Ok(config.api_server.reload_encryption.then(|| Arc::clone(&api.encryption)))
}

/// What the certificate names besides the cluster's own names and the node.
fn extra_names(config: &Server) -> Vec<String> {
    let addresses = config.listener.advertise_address.iter().chain(&config.node.external_ips);
    config.listener.tls_san.iter().cloned().chain(addresses.map(ToString::to_string)).collect()
}

fn client_certificate(pair: &k3s_supervisor::Pair) -> anyhow::Result<ClientCertificate> {
    Ok(ClientCertificate { chain: certificates(&pair.certificate)?, key: Arc::new(key(&pair.key)?) })
}

/// The certificates of all that sign for this cluster.
fn authorities(tls: &Tls) -> [String; 3] {
    [&tls.server_ca, &tls.client_ca, &tls.request_header_ca].map(|authority| authority.certificate().to_owned())
}

/// The certificates of a PEM text.
pub fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?)
}

/// The private key of a PEM text.
pub fn key(pem: &str) -> anyhow::Result<PrivateKeyDer<'static>> {
    Ok(PrivateKeyDer::from_pem_slice(pem.as_bytes())?)
}
