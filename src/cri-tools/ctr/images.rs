//! `ctr images ls` and `pull`, `ctr version`.

use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use k3s_cri::NamedImage;
use k8s_cri::v1::*;

use super::archives;

use crate::connection::Connection;
use crate::error::Error;
use crate::output::{line, print};
use crate::table::Table;
use crate::{human, local};

/// Flags of `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Names only
    #[arg(short, long)]
    quiet: bool,
    /// Only images of which a name has one of these in it
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

impl Ls {
    pub async fn run(self, cri: &Connection) -> Result<(), Error> {
        let doing = "list images";
        let socket = archives::socket(cri, doing)?;
        let answer = local::ask(&socket, doing, Method::GET, "/images", local::nothing()).await?;
        let failed = |detail: String| Error::Local { doing: doing.to_owned(), detail };
        let bytes = answer.into_body().collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
        let mut rows: Vec<NamedImage> = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        rows.retain(|row| self.names.is_empty() || self.names.iter().any(|name| row.name.contains(name)));
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        if self.quiet {
            return rows.iter().try_for_each(|row| line(&row.name));
        }
        let mut table = Table::close(&["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"]);
        for row in rows {
            // The labels by which others tell that an image is Kubernetes', and that it stays.
            let pinned = if row.pinned { ",io.cri-containerd.pinned=pinned" } else { "" };
            table.row(vec![
                row.name,
                row.media_type,
                row.digest,
                human::binary_size(row.size),
                row.platforms.join(","),
                format!("io.cri-containerd.image=managed{pinned}"),
            ]);
        }
        print(table)
    }
}

/// Flags of `pull`.
#[derive(Debug, Args)]
pub struct Pull {
    image: String,
    /// USERNAME[:PASSWORD] for the registry
    #[arg(short, long)]
    user: Option<String>,
    /// Accepted: only this machine's platform is pulled
    #[arg(long, hide = true)]
    all_platforms: bool,
}

impl Pull {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let auth = self.user.map(|user| {
            let (username, password) = user.split_once(':').unwrap_or((&user, ""));
            AuthConfig { username: username.to_owned(), password: password.to_owned(), ..Default::default() }
        });
        let image = Some(ImageSpec { image: self.image.clone(), ..Default::default() });
        let request = PullImageRequest { image, auth, sandbox_config: None };
        let pulled = cri.images.pull_image(request).await.map_err(Error::call(format!("pull {}", self.image)))?;
        line(format_args!("{}: done ({})", self.image, pulled.into_inner().image_ref))
    }
}

/// `ctr version`.
pub async fn version(cri: &mut Connection) -> Result<(), Error> {
    let version = cri.runtime.version(VersionRequest::default()).await.map_err(Error::call("version"))?.into_inner();
    let client = env!("CARGO_PKG_VERSION");
    print(format_args!(
        "Client:\n  Version:  {client}\n\nServer:\n  Name:     {}\n  Version:  {}\n",
        version.runtime_name, version.runtime_version
    ))
}

/// Fails if one of the names is an image's already.
pub async fn refuse_taken(cri: &mut Connection, names: &[String]) -> Result<(), Error> {
    for name in names {
        let image = Some(ImageSpec { image: name.clone(), ..Default::default() });
        let status = cri.images.image_status(ImageStatusRequest { image, verbose: false }).await;
        if status.map_err(Error::call(format!("image status for {name:?}")))?.into_inner().image.is_some() {
            return Err(Error::Usage(format!("image {name:?} already exists; use --force to take the name from it")));
        }
    }
    Ok(())
}
