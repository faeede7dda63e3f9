//! Which kubeconfig is read, and the client configuration that comes of it.
//!
//! k3s's own file is taken before `~/.kube/config`, as `k3s kubectl` always did.

use std::env;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Config, Context, KubeConfigOptions, Kubeconfig};
use kube::config::{NamedAuthInfo, NamedCluster, NamedContext};

use crate::error::Error;
use crate::flags::GlobalFlags;

/// Where a server run by root writes it.
const GLOBAL: &str = "/etc/rancher/k3s/k3s.yaml";
/// Where there is no kubeconfig at all, kubectl looks here.
const DEFAULT_SERVER: &str = "http://localhost:8080";

/// Where a kubeconfig may stand.
pub struct Places {
    /// `--kubeconfig`
    pub flag: Option<PathBuf>,
    /// `$KUBECONFIG`, a list
    pub variable: Option<std::ffi::OsString>,
    pub home: Option<PathBuf>,
    pub global: PathBuf,
}

impl Places {
    /// Those of this process.
    pub fn of_process(flags: &GlobalFlags) -> Self {
        Self {
            flag: flags.kubeconfig.clone(),
            variable: env::var_os("KUBECONFIG").filter(|value| !value.is_empty()),
            home: env::home_dir(),
            global: PathBuf::from(GLOBAL),
        }
    }

    /// The files to read, in order: the first to set a value wins. Files that are listed may be absent, except for that of
    /// the flag.
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(flag) = &self.flag {
            return vec![flag.clone()];
        }
        if let Some(list) = &self.variable {
            return env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect();
        }
        let own =
            |name: &str| self.home.as_ref().map(|home| home.join(".kube").join(name)).filter(|path| path.exists());
        match File::open(&self.global) {
            Ok(_) => vec![self.global.clone()],
            Err(cause) => {
                if let Some(path) = own("k3s.yaml").or_else(|| own("config")) {
                    return vec![path];
                }
                // There is one, but not for this user: reading it gives the error.
                if cause.kind() == ErrorKind::PermissionDenied {
                    return vec![self.global.clone()];
                }
                self.home.as_ref().map(|home| home.join(".kube/config")).into_iter().collect()
            }
        }
    }

    /// The file `kubectl config` writes to.
    pub fn writable(&self) -> Option<PathBuf> {
        let files = self.files();
        files.iter().find(|path| path.exists()).or(files.first()).cloned()
    }
}

/// Reads and merges the files.
pub fn load(places: &Places) -> Result<Kubeconfig, Error> {
    let mut merged = Kubeconfig::default();
    for path in places.files() {
        let failed = |cause: String| Error::Kubeconfig { path: path.clone(), cause };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mut file = Kubeconfig::from_yaml(&text).map_err(|error| failed(error.to_string()))?;
                make_absolute(&mut file, path.parent().unwrap_or(Path::new("")));
                merged = merged.merge(file).map_err(|error| failed(error.to_string()))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if places.flag.is_some() {
                    return Err(Error::usage(format!("stat {}: no such file or directory", path.display())));
                }
            }
            Err(error) => {
                if error.kind() == ErrorKind::PermissionDenied && path == places.global {
                    eprintln!(
                        "WARN[0000] Unable to read {}, please start server with --write-kubeconfig-mode or \
                         --write-kubeconfig-group to modify kube config permissions",
                        path.display()
                    );
                }
                let cause = match error.kind() {
                    ErrorKind::PermissionDenied => format!("open {}: permission denied", path.display()),
                    _ => error.to_string(),
                };
                return Err(failed(cause));
            }
        }
    }
    Ok(merged)
}

/// Paths in a kubeconfig are relative to it.
fn make_absolute(config: &mut Kubeconfig, folder: &Path) {
    let fix = |field: &mut Option<String>| {
        if let Some(path) = field.as_mut().filter(|path| !path.is_empty()) {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
    };
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        fix(&mut cluster.certificate_authority);
    }
    for user in config.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        fix(&mut user.client_certificate);
        fix(&mut user.client_key);
        fix(&mut user.token_file);
    }
}

/// The client configuration of the files and the flags, and whether the namespace was asked for.
pub async fn client_config(flags: &GlobalFlags) -> Result<Config, Error> {
    let mut kubeconfig = load(&Places::of_process(flags))?;
    overlay(&mut kubeconfig, flags)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| Error::usage(full_message(&error)))?;
    if let Some(namespace) = &flags.namespace {
        config.default_namespace = namespace.clone();
    }
    if config.default_namespace.is_empty() {
        config.default_namespace = "default".to_owned();
    }
    config.auth_info.impersonate = flags.impersonate.clone().or(config.auth_info.impersonate);
    if !flags.impersonate_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(flags.impersonate_groups.clone());
    }
    Ok(config)
}

/// Makes the flags part of the configuration, so that what is read of it is what they say.
fn overlay(config: &mut Kubeconfig, flags: &GlobalFlags) -> Result<(), Error> {
    let name = flags.context.clone().or(config.current_context.clone()).unwrap_or_default();
    let found = config.contexts.iter().find(|context| context.name == name).and_then(|named| named.context.clone());
    if found.is_none() && (flags.context.is_some() || !name.is_empty()) {
        return Err(Error::Plain(format!(
            "Error in configuration: context was not found for specified context: {name}"
        )));
    }
    let mut context = found.unwrap_or_default();
    if let Some(cluster) = &flags.cluster {
        context.cluster.clone_from(cluster);
    }
    if let Some(user) = &flags.user {
        context.user = Some(user.clone());
    }
    let found =
        config.clusters.iter().find(|named| named.name == context.cluster).and_then(|named| named.cluster.clone());
    if found.is_none() && !context.cluster.is_empty() {
        return Err(Error::usage(format!("cluster \"{}\" does not exist", context.cluster)));
    }
    let mut cluster: Cluster = found.unwrap_or_default();
    let wanted = context.user.clone().unwrap_or_default();
    let found = config.auth_infos.iter().find(|named| named.name == wanted).and_then(|named| named.auth_info.clone());
    if found.is_none() && !wanted.is_empty() {
        return Err(Error::usage(format!("auth info \"{wanted}\" does not exist")));
    }
    let mut user: AuthInfo = found.unwrap_or_default();

    if let Some(server) = &flags.server {
        let has_scheme = server.contains("://");
        cluster.server = Some(if has_scheme { server.clone() } else { format!("http://{server}") });
    }
    cluster.server.get_or_insert_with(|| DEFAULT_SERVER.to_owned());
    if flags.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(true);
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
    }
    if let Some(file) = &flags.certificate_authority {
        cluster.certificate_authority = Some(file.clone());
        cluster.certificate_authority_data = None;
    }
    if flags.tls_server_name.is_some() {
        cluster.tls_server_name.clone_from(&flags.tls_server_name);
    }
    if let Some(token) = &flags.token {
        user.token = Some(token.clone().into());
        user.token_file = None;
    }
    if let Some(file) = &flags.client_certificate {
        user.client_certificate = Some(file.clone());
        user.client_certificate_data = None;
    }
    if let Some(file) = &flags.client_key {
        user.client_key = Some(file.clone());
        user.client_key_data = None;
    }

    let key = "kubectl".to_owned();
    let context = Context { cluster: key.clone(), user: Some(key.clone()), ..context };
    config.contexts = vec![NamedContext { name: key.clone(), context: Some(context), ..Default::default() }];
    config.clusters = vec![NamedCluster { name: key.clone(), cluster: Some(cluster), ..Default::default() }];
    config.auth_infos = vec![NamedAuthInfo { name: key.clone(), auth_info: Some(user), ..Default::default() }];
    config.current_context = Some(key);
    Ok(())
}

/// An error with all its causes, each said once.
pub fn full_message(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Places {
        Places { flag: None, variable: None, home: Some(folder.join("home")), global: folder.join("k3s.yaml") }
    }

    #[test]
    fn flag_then_variable_then_k3ss_own_then_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = places(folder.path());
        let kube = folder.path().join("home/.kube");
        fs::create_dir_all(&kube).unwrap();
        assert_eq!(places.files(), [kube.join("config")]);
        fs::write(kube.join("config"), "").unwrap();
        fs::write(kube.join("k3s.yaml"), "").unwrap();
        assert_eq!(places.files(), [kube.join("k3s.yaml")]);
        fs::write(&places.global, "").unwrap();
        assert_eq!(places.files(), [places.global.clone()]);
        places.variable = Some("/a:/b".into());
        assert_eq!(places.files(), [PathBuf::from("/a"), PathBuf::from("/b")]);
        places.flag = Some("/c".into());
        assert_eq!(places.files(), [PathBuf::from("/c")]);
    }

    #[test]
    fn a_file_that_is_asked_for_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = places(folder.path());
        assert!(load(&places).unwrap().clusters.is_empty());
        places.flag = Some(folder.path().join("none"));
        assert!(load(&places).unwrap_err().to_string().contains("no such file or directory"));
    }

    #[test]
    fn flags_go_before_the_file() {
        let mut config = Kubeconfig::from_yaml(
            "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u, namespace: n}}]\n\
             clusters: [{name: c, cluster: {server: 'https://one:1'}}]\nusers: [{name: u, user: {token: t}}]",
        )
        .unwrap();
        let flags = GlobalFlags { server: Some("two:2".into()), ..GlobalFlags::default() };
        overlay(&mut config, &flags).unwrap();
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("http://two:2"));
        assert_eq!(config.contexts[0].context.as_ref().unwrap().namespace.as_deref(), Some("n"));
        let flags = GlobalFlags { context: Some("x".into()), ..GlobalFlags::default() };
        assert_eq!(
            overlay(&mut config, &flags).unwrap_err().to_string(),
            "Error in configuration: context was not found for specified context: x"
        );
    }
}
