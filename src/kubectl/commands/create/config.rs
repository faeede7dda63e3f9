//! `kubectl create configmap` and `secret`

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{CreateFlags, one_name, simple};
use crate::error::Error;

/// Where keys and values come from.
#[derive(Debug, Args)]
struct Sources {
    /// Specify a key and literal value (i.e. mykey=somevalue)
    #[arg(long)]
    from_literal: Vec<String>,
    /// Key files: FILE, KEY=FILE or a folder
    #[arg(long)]
    from_file: Vec<String>,
    /// Specify the path to a file to read lines of key=val pairs
    #[arg(long)]
    from_env_file: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ConfigMap {
    /// NAME
    names: Vec<String>,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    pub flags: CreateFlags,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Secret {
    #[command(subcommand)]
    kind: SecretKind,
}

#[derive(Debug, Subcommand)]
enum SecretKind {
    /// Create a secret from a local file, directory, or literal value
    Generic(Generic),
    /// Create a TLS secret
    Tls(Tls),
    /// Create a secret for use with a Docker registry
    DockerRegistry(DockerRegistry),
}

#[derive(Debug, Args)]
struct Generic {
    /// NAME
    names: Vec<String>,
    #[command(flatten)]
    sources: Sources,
    /// The type of secret to create
    #[arg(long = "type")]
    kind: Option<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

#[derive(Debug, Args)]
struct Tls {
    /// NAME
    names: Vec<String>,
    /// Path to PEM encoded public key certificate
    #[arg(long)]
    cert: PathBuf,
    /// Path to private key associated with given certificate
    #[arg(long)]
    key: PathBuf,
    #[command(flatten)]
    flags: CreateFlags,
}

#[derive(Debug, Args)]
struct DockerRegistry {
    /// NAME
    names: Vec<String>,
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    #[arg(long)]
    docker_username: String,
    #[arg(long)]
    docker_password: String,
    #[arg(long)]
    docker_email: Option<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

impl ConfigMap {
    pub fn object(&self) -> Result<Value, Error> {
        let name = one_name(&self.names, "create configmap")?;
        let mut object = simple("v1", "ConfigMap", name, json!({}));
        let (mut data, mut binary) = (Map::new(), Map::new());
        for (key, bytes) in self.sources.read(name)? {
            match String::from_utf8(bytes) {
                Ok(text) => data.insert(key, text.into()),
                Err(error) => binary.insert(key, BASE64.encode(error.as_bytes()).into()),
            };
        }
        if !data.is_empty() {
            object["data"] = Value::Object(data);
        }
        if !binary.is_empty() {
            object["binaryData"] = Value::Object(binary);
        }
        Ok(object)
    }
}

impl Secret {
    /// The secret, and how to create it.
    pub fn object(self) -> Result<(Value, CreateFlags), Error> {
        match self.kind {
            SecretKind::Generic(args) => {
                let name = one_name(&args.names, "create secret generic")?;
                let mut object = simple("v1", "Secret", name, json!({}));
                let data = encoded(args.sources.read(name)?);
                if !data.is_empty() {
                    object["data"] = Value::Object(data);
                }
                if let Some(kind) = &args.kind {
                    object["type"] = json!(kind);
                }
                Ok((object, args.flags))
            }
            SecretKind::Tls(args) => {
                let name = one_name(&args.names, "create secret tls")?;
                let data =
                    encoded(vec![("tls.crt".to_owned(), read(&args.cert)?), ("tls.key".to_owned(), read(&args.key)?)]);
                Ok((simple("v1", "Secret", name, json!({"type": "kubernetes.io/tls", "data": data})), args.flags))
            }
            SecretKind::DockerRegistry(args) => {
                let name = one_name(&args.names, "create secret docker-registry")?;
                let (user, password) = (&args.docker_username, &args.docker_password);
                // The order of Docker's own files, which a map would not keep.
                let mut entry = format!("\"username\":{},\"password\":{}", json!(user), json!(password));
                if let Some(email) = &args.docker_email {
                    entry.push_str(&format!(",\"email\":{}", json!(email)));
                }
                entry.push_str(&format!(",\"auth\":{}", json!(BASE64.encode(format!("{user}:{password}")))));
                let config = format!("{{\"auths\":{{{}:{{{entry}}}}}}}", json!(args.docker_server));
                let data = encoded(vec![(".dockerconfigjson".to_owned(), config.into_bytes())]);
                let rest = json!({"type": "kubernetes.io/dockerconfigjson", "data": data});
                Ok((simple("v1", "Secret", name, rest), args.flags))
            }
        }
    }
}

fn encoded(data: Vec<(String, Vec<u8>)>) -> Map<String, Value> {
    data.into_iter().map(|(key, bytes)| (key, BASE64.encode(bytes).into())).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|cause| Error::File { action: "error reading", path: path.to_owned(), cause })
}

impl Sources {
    fn read(&self, name: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut data: Vec<(String, Vec<u8>)> = Vec::new();
        let mut add = |key: String, value: Vec<u8>| {
            if data.iter().any(|(other, _)| *other == key) {
                return Err(Error::usage(format!(
                    "cannot add key \"{key}\", another key by that name already exists in Data for \"{name}\""
                )));
            }
            data.push((key, value));
            Ok(())
        };
        for literal in &self.from_literal {
            let (key, value) = literal
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| Error::usage(format!("invalid literal source {literal}, expected key=value")))?;
            add(key.to_owned(), value.as_bytes().to_vec())?;
        }
        for source in &self.from_file {
            let (key, path) = match source.split_once('=') {
                Some((key, path)) => (Some(key.to_owned()), Path::new(path)),
                None => (None, Path::new(source)),
            };
            if path.is_dir() {
                if key.is_some() {
                    return Err(Error::usage("cannot give a key name for a directory path"));
                }
                let failed = |cause| Error::File { action: "error reading", path: path.to_owned(), cause };
                let mut files = Vec::new();
                for entry in fs::read_dir(path).map_err(failed)? {
                    files.push(entry.map_err(failed)?.path());
                }
                files.sort();
                for file in files.iter().filter(|file| file.is_file()) {
                    add(file_name(file), read(file)?)?;
                }
            } else {
                add(key.unwrap_or_else(|| file_name(path)), read(path)?)?;
            }
        }
        for path in &self.from_env_file {
            let text = String::from_utf8_lossy(&read(path)?).into_owned();
            for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                add(key.to_owned(), value.as_bytes().to_vec())?;
            }
        }
        data.sort();
        Ok(data)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(literals: &[&str], files: &[&str]) -> Sources {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Sources { from_literal: owned(literals), from_file: owned(files), from_env_file: Vec::new() }
    }

    #[test]
    fn binary_files_go_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bin"), [0xff, 0]).unwrap();
        let file = format!("k={}", folder.path().join("bin").display());
        let map = ConfigMap {
            names: vec!["c".into()],
            sources: sources(&["a=b=c"], &[&file]),
            flags: CreateFlags::default(),
        };
        let object = map.object().unwrap();
        assert_eq!(object["data"], json!({"a": "b=c"}));
        assert_eq!(object["binaryData"], json!({"k": "/wA="}));
    }

    #[test]
    fn a_key_is_given_once() {
        let error = sources(&["a=1", "a=2"], &[]).read("c").unwrap_err().to_string();
        assert!(error.contains("cannot add key \"a\", another key by that name already exists in Data for \"c\""));
        assert!(sources(&["a"], &[]).read("c").is_err());
    }
}
