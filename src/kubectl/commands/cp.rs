//! `kubectl cp`: a tar archive through exec.

use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::exec::exit_of;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::flags::Context;
use crate::pods;

/// Copy files and directories to and from containers (the container needs tar)
#[derive(Debug, Args)]
pub struct Cp {
    /// FILE or [NAMESPACE/]POD:FILE
    source: String,
    /// FILE or [NAMESPACE/]POD:FILE
    target: String,
    /// Container name
    #[arg(short, long)]
    container: Option<String>,
    /// The copied file/directory's ownership and permissions will not be preserved in the container
    #[arg(long)]
    no_preserve: bool,
}

/// A path, here or in a pod.
#[derive(Debug, PartialEq)]
enum Place {
    Local(PathBuf),
    Pod { namespace: Option<String>, pod: String, path: String },
}

fn parse(text: &str) -> Result<Place, Error> {
    let Some((pod, path)) = text.split_once(':') else { return Ok(Place::Local(PathBuf::from(text))) };
    // A path with a colon in it is not a pod.
    if pod.starts_with(['/', '.']) || pod.is_empty() {
        return Ok(Place::Local(PathBuf::from(text)));
    }
    let (namespace, pod) = match pod.split('/').collect::<Vec<_>>().as_slice() {
        [pod] => (None, (*pod).to_owned()),
        [namespace, pod] => (Some((*namespace).to_owned()), (*pod).to_owned()),
        _ => return Err(Error::usage("filespec must match the canonical format: [[namespace/]pod:]file/path")),
    };
    if path.is_empty() {
        return Err(Error::usage("filepath can not be empty"));
    }
    Ok(Place::Pod { namespace, pod, path: path.to_owned() })
}

pub async fn run(args: Cp, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    match (parse(&args.source)?, parse(&args.target)?) {
        (Place::Local(from), Place::Pod { namespace, pod, path }) => {
            upload(&args, &cluster, &from, namespace, &pod, &path).await
        }
        (Place::Pod { namespace, pod, path }, Place::Local(to)) => {
            download(&args, &cluster, namespace, &pod, &path, &to).await
        }
        (Place::Local(_), Place::Local(_)) => {
            Err(Error::usage("one of src or dest must be a remote file specification"))
        }
        _ => Err(Error::usage("one of src or dest must be a local file specification")),
    }
}

/// Runs tar in the container with `input`, and gives what it writes.
async fn tar(
    args: &Cp,
    cluster: &Cluster,
    namespace: Option<String>,
    pod: &str,
    command: Vec<String>,
    input: Option<Vec<u8>>,
) -> Result<Vec<u8>, Error> {
    let namespace = namespace.unwrap_or_else(|| cluster.namespace.clone());
    let object = cluster.get(&format!("{}/{pod}", pods::collection(&namespace))).await?;
    let container = match &args.container {
        Some(name) => name.clone(),
        None => pods::default_container(&object, true)?,
    };
    let parameters = AttachParams {
        container: Some(container),
        stdin: input.is_some(),
        stdout: true,
        stderr: true,
        ..AttachParams::default()
    };
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let mut process = api.exec(pod, command, &parameters).await.map_err(|error| cluster.stream_error(error))?;
    let failed = |error: std::io::Error| Error::Stream { action: "copying", cause: error.to_string() };
    let (mut output, mut errors) = (Vec::new(), String::new());
    let status = process.take_status();
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let sending = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            stdin.write_all(&input).await?;
            stdin.shutdown().await?;
        }
        Ok(())
    };
    let receiving = async {
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut output).await?;
        }
        Ok(())
    };
    let complaining = async {
        if let Some(mut stderr) = stderr {
            stderr.read_to_string(&mut errors).await?;
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving, complaining).map_err(failed)?;
    if !errors.is_empty() {
        eprint!("{errors}");
    }
    if let Some(status) = status
        && let Some(status) = status.await
    {
        exit_of(&status)?;
    }
    Ok(output)
}

async fn upload(
    args: &Cp,
    cluster: &Cluster,
    from: &Path,
    namespace: Option<String>,
    pod: &str,
    path: &str,
) -> Result<(), Error> {
    if !from.exists() {
        return Err(Error::usage(format!("{} doesn't exist in local filesystem", from.display())));
    }
    // Into a folder that is named with a slash at its end goes a file of the same name.
    let own_name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let path = if path.ends_with('/') { format!("{path}{own_name}") } else { path.to_owned() };
    let target = Path::new(&path);
    let name = target.file_name().ok_or_else(|| Error::usage(format!("{path} names no file")))?;
    let failed = |cause| Error::File { action: "cannot read", path: from.to_owned(), cause };
    let mut archive = ::tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    if from.is_dir() {
        archive.append_dir_all(name, from).map_err(failed)?;
    } else {
        archive.append_path_with_name(from, name).map_err(failed)?;
    }
    let bytes = archive.into_inner().map_err(failed)?;
    let mut command = vec!["tar".to_owned()];
    if args.no_preserve {
        command.extend(["--no-same-permissions".to_owned(), "--no-same-owner".to_owned()]);
    }
    command.extend(["-xmf".to_owned(), "-".to_owned()]);
    if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        command.extend(["-C".to_owned(), folder.to_string_lossy().into_owned()]);
    }
    tar(args, cluster, namespace, pod, command, Some(bytes)).await.map(|_| ())
}

async fn download(
    args: &Cp,
    cluster: &Cluster,
    namespace: Option<String>,
    pod: &str,
    path: &str,
    to: &Path,
) -> Result<(), Error> {
    let command = ["tar", "cf", "-", path].map(str::to_owned).to_vec();
    let bytes = tar(args, cluster, namespace, pod, command, None).await?;
    let base = path.trim_matches('/');
    let last = Path::new(base).file_name().map(PathBuf::from).unwrap_or_default();
    let to = if to.is_dir() { to.join(last) } else { to.to_owned() };
    let written = extract(&bytes, Path::new(base), &to)?;
    if written == 0 {
        return Err(Error::usage(format!("{path} no such file or directory")));
    }
    Ok(())
}

/// Unpacks what is below `base` to `to`. A container may not write anywhere else: names that lead out are refused, and
/// links are left out, as kubectl does.
fn extract(bytes: &[u8], base: &Path, to: &Path) -> Result<usize, Error> {
    let failed = |cause| Error::File { action: "cannot write", path: to.to_owned(), cause };
    let mut archive = ::tar::Archive::new(Cursor::new(bytes));
    let mut written = 0;
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        let Ok(relative) = name.strip_prefix(base) else { continue };
        if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
            eprintln!("warning: file \"{}\" is outside target destination, skipping", name.display());
            continue;
        }
        let target = if relative.as_os_str().is_empty() { to.to_owned() } else { to.join(relative) };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&target).map_err(failed)?;
        } else if kind.is_file() {
            if let Some(folder) = target.parent() {
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            entry.unpack(&target).map_err(failed)?;
        } else {
            eprintln!("warning: skipping symlink: \"{}\"", name.display());
            continue;
        }
        written += 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_here_or_in_a_pod() {
        assert_eq!(parse("/a/b").unwrap(), Place::Local("/a/b".into()));
        assert_eq!(parse("./a:b").unwrap(), Place::Local("./a:b".into()));
        let pod = |namespace: Option<&str>| Place::Pod {
            namespace: namespace.map(str::to_owned),
            pod: "p".into(),
            path: "/x".into(),
        };
        assert_eq!(parse("p:/x").unwrap(), pod(None));
        assert_eq!(parse("n/p:/x").unwrap(), pod(Some("n")));
        assert!(parse("p:").is_err());
    }

    #[test]
    fn only_what_was_asked_for_is_unpacked() {
        let mut archive = ::tar::Builder::new(Vec::new());
        for name in ["etc/app/a", "etc/other", "etc/app/sub/b"] {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("app");
        assert_eq!(extract(&bytes, Path::new("etc/app"), &to).unwrap(), 2);
        assert!(to.join("sub/b").exists() && !to.join("other").exists());
    }
}
