//! `ctr images ls` and `pull`, `ctr version`: what CRI has calls for.

use clap::Args;
use k8s_cri::v1::*;

use crate::connection::Connection;
use crate::error::Error;
use crate::human;
use crate::output::{line, print};
use crate::table::Table;

/// Flags of `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Names only
    #[arg(short, long)]
    quiet: bool,
}

/// A name of an image and what it means; by digest where it has no tag.
fn names(image: &Image) -> Vec<&String> {
    let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
    if names.is_empty() { vec![&image.id] } else { names.iter().collect() }
}

impl Ls {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let all = cri.images.list_images(ListImagesRequest::default()).await.map_err(Error::call("list images"))?;
        let images = all.into_inner().images;
        let mut rows: Vec<(&String, &Image)> =
            images.iter().flat_map(|image| names(image).into_iter().map(move |name| (name, image))).collect();
        rows.sort_by_key(|(name, _)| name.as_str());
        if self.quiet {
            return rows.iter().try_for_each(|(name, _)| line(name));
        }
        let mut table = Table::new(&["REF", "DIGEST", "SIZE", "PINNED"]);
        for (name, image) in rows {
            let digest = image.repo_digests.first().and_then(|digest| Some(digest.split_once('@')?.1));
            table.row(vec![
                name.clone(),
                digest.unwrap_or(&image.id).to_owned(),
                human::size(image.size, 3),
                image.pinned.to_string(),
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
