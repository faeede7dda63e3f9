//! `crictl images`, `pull`, `rmi` and `imagefsinfo`

use std::collections::BTreeMap;

use clap::Args;
use k8s_cri::v1::*;

use super::list::labels;
use crate::connection::Connection;
use crate::error::Error;
use crate::human;
use crate::output::{self, Format, line, print, short};
use crate::table::Table;

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.to_owned(), ..Default::default() })
}

/// What the runtime knows of an image.
pub async fn status(cri: &mut Connection, image: &str, verbose: bool) -> Result<ImageStatusResponse, Error> {
    let request = ImageStatusRequest { image: spec(image), verbose };
    let status = cri.images.image_status(request).await;
    Ok(status.map_err(Error::call(format!("image status for {image:?}")))?.into_inner())
}

/// Do two names mean the same image, which is present?
pub async fn same_image(cri: &mut Connection, one: &str, other: &str) -> Result<bool, Error> {
    let ids = [status(cri, one, false).await?.image, status(cri, other, false).await?.image];
    let [one, other] = ids.map(|image| image.map(|image| image.id));
    Ok(one.is_some() && one == other)
}

/// List images
#[derive(Debug, Args)]
pub struct Images {
    /// Only this one
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Also digests
    #[arg(long)]
    digests: bool,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// Also whether images are pinned
    #[arg(long)]
    pinned: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Everything about each, instead of a table
    #[arg(short, long)]
    verbose: bool,
}

/// Name and tag of a reference.
fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "<none>"),
    }
}

/// What the table shows of an image: a line for each tag.
fn tags(image: &Image) -> Vec<(String, String)> {
    let of_digest = image.repo_digests.first().and_then(|digest| digest.split_once('@'));
    if image.repo_tags.is_empty() {
        let name = of_digest.map_or("<none>", |(name, _)| name);
        return vec![(name.to_owned(), "<none>".to_owned())];
    }
    let owned = |(name, tag): (&str, &str)| (name.to_owned(), tag.to_owned());
    image.repo_tags.iter().map(|reference| owned(split(reference))).collect()
}

impl Images {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let filter = self.name.as_deref().map(|name| ImageFilter { image: spec(name) });
        let all = cri.images.list_images(ListImagesRequest { filter }).await.map_err(Error::call("list images"))?;
        let mut images = all.into_inner().images;
        images.sort_by_cached_key(|image| {
            let name = image.repo_tags.first().or(image.repo_digests.first());
            (name.cloned().unwrap_or_default(), image.id.clone())
        });
        if self.output != Format::Table {
            return output::message(&ListImagesResponse { images }, self.output);
        }
        if self.quiet {
            return images.iter().try_for_each(|image| line(&image.id));
        }
        if self.verbose {
            return images.iter().try_for_each(|image| print(describe(image)));
        }
        let columns = |image: &str, tag: &str, digest: &str, id: &str, size: &str, pinned: &str| {
            let shown =
                [(true, image), (true, tag), (self.digests, digest), (true, id), (true, size), (self.pinned, pinned)];
            shown.into_iter().filter(|(shown, _)| *shown).map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
        };
        let head = columns("IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE", "PINNED");
        let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
        for image in &images {
            let digest = image.repo_digests.first().and_then(|digest| Some(digest.split_once('@')?.1));
            let digest = short(digest.unwrap_or("<none>"), self.no_trunc);
            let (id, size) = (short(&image.id, self.no_trunc), human::size(image.size, 3));
            for (name, tag) in tags(image) {
                table.row(columns(&name, &tag, digest, id, &size, &image.pinned.to_string()));
            }
        }
        print(table)
    }
}

fn describe(image: &Image) -> String {
    let mut text = format!("ID: {}\n", image.id);
    image.repo_tags.iter().for_each(|tag| text += &format!("RepoTags: {tag}\n"));
    image.repo_digests.iter().for_each(|digest| text += &format!("RepoDigests: {digest}\n"));
    text += &format!("Size: {}\n", human::size(image.size, 3));
    if let Some(uid) = &image.uid {
        text += &format!("Uid: {}\n", uid.value);
    }
    if !image.username.is_empty() {
        text += &format!("Username: {}\n", image.username);
    }
    if image.pinned {
        text += "Pinned: true\n";
    }
    text + "\n"
}

/// Pull an image from a registry
#[derive(Debug, Args)]
pub struct Pull {
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Annotation of the image; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
}

/// How to show oneself to the registry.
#[derive(Debug, Default, Args)]
pub struct Credentials {
    /// USERNAME[:PASSWORD]
    #[arg(long, env = "CRICTL_CREDS", hide_env_values = true, conflicts_with = "auth")]
    creds: Option<String>,
    /// The same in base64
    #[arg(long, env = "CRICTL_AUTH", hide_env_values = true)]
    auth: Option<String>,
}

impl Credentials {
    fn config(&self) -> Result<Option<AuthConfig>, Error> {
        if let Some(auth) = self.auth.clone() {
            return Ok(Some(AuthConfig { auth, ..Default::default() }));
        }
        let Some(creds) = &self.creds else { return Ok(None) };
        let (username, password) = creds.split_once(':').unwrap_or((creds, ""));
        if username.is_empty() {
            return Err(Error::Usage("--creds has no username; write USERNAME:PASSWORD".to_owned()));
        }
        let (username, password) = (username.to_owned(), password.to_owned());
        Ok(Some(AuthConfig { username, password, ..Default::default() }))
    }
}

/// Gets an image, and returns its reference.
pub async fn pull(
    cri: &mut Connection,
    image: ImageSpec,
    credentials: &Credentials,
    sandbox_config: Option<PodSandboxConfig>,
) -> Result<String, Error> {
    let request = PullImageRequest { image: Some(image), auth: credentials.config()?, sandbox_config };
    let pulled = cri.images.pull_image(request).await.map_err(Error::call("pulling image"))?;
    Ok(pulled.into_inner().image_ref)
}

impl Pull {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let annotations = labels(&self.annotation)?;
        let image = ImageSpec { image: self.image, annotations, ..Default::default() };
        let reference = pull(cri, image, &self.credentials, None).await?;
        line(format_args!("Image is up to date for {reference}"))
    }
}

/// Remove one or more images
#[derive(Debug, Args)]
pub struct Rmi {
    #[arg(value_name = "IMAGE-ID", required_unless_present_any = ["all", "prune"])]
    images: Vec<String>,
    /// All images
    #[arg(short, long)]
    all: bool,
    /// All that no container uses and that are not pinned
    #[arg(short = 'q', long)]
    prune: bool,
}

impl Rmi {
    /// What is to be removed: as it was given, or by id.
    async fn chosen(&self, cri: &mut Connection) -> Result<Vec<String>, Error> {
        if !self.all && !self.prune {
            return Ok(self.images.clone());
        }
        let all = cri.images.list_images(ListImagesRequest::default()).await.map_err(Error::call("list images"))?;
        let mut images: BTreeMap<String, Image> =
            all.into_inner().images.into_iter().map(|image| (image.id.clone(), image)).collect();
        if self.prune {
            images.retain(|_, image| !image.pinned);
            let request = ListContainersRequest::default();
            let containers = cri.runtime.list_containers(request).await.map_err(Error::call("list containers"))?;
            for container in containers.into_inner().containers {
                let of = container.image.map(|image| image.image).unwrap_or_default();
                let id = status(cri, &of, false).await?.image.map_or(container.image_id, |image| image.id);
                images.remove(&id);
            }
        }
        Ok(images.into_keys().collect())
    }

    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let mut failed = false;
        for image in self.chosen(cri).await? {
            let Some(found) = status(cri, &image, false).await?.image else {
                eprintln!("ERRO[0000] no such image {image}");
                failed = true;
                continue;
            };
            let removed = cri.images.remove_image(RemoveImageRequest { image: spec(&image) }).await;
            if let Err(error) = removed.map_err(Error::call(format!("remove image {image:?}"))) {
                eprintln!("ERRO[0000] {error}");
                failed = true;
                continue;
            }
            let names = if found.repo_tags.is_empty() { &found.repo_digests } else { &found.repo_tags };
            names.iter().try_for_each(|name| line(format_args!("Deleted: {name}")))?;
        }
        if failed { Err(Error::Several("unable to remove the image(s)".to_owned())) } else { Ok(()) }
    }
}

/// Show what images use of their file system
#[derive(Debug, Args)]
pub struct FsInfo {
    #[arg(short, long, default_value = "json")]
    output: Format,
}

impl FsInfo {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let info = cri.images.image_fs_info(ImageFsInfoRequest {}).await;
        let info = info.map_err(Error::call("image filesystem info"))?.into_inner();
        if self.output != Format::Table {
            let value = serde_json::json!({ "status": crate::protojson::to_value(&info) });
            return output::value(&value, self.output);
        }
        let mut text = String::new();
        for (label, usages) in [("Container", &info.container_filesystems), ("Image", &info.image_filesystems)] {
            text += &format!("{label} Filesystem \n");
            for (index, usage) in usages.iter().enumerate() {
                let value = |number: &Option<UInt64Value>| number.as_ref().map_or(0, |number| number.value);
                text += &format!(
                    "TimeStamp[{index}]: {}\nDisk[{index}]: {}\nInodes[{index}]: {}\nMountpoint[{index}]: {}\n",
                    usage.timestamp,
                    human::size(value(&usage.used_bytes), 4),
                    value(&usage.inodes_used),
                    usage.fs_id.as_ref().map_or("", |id| id.mountpoint.as_str()),
                );
            }
        }
        print(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_is_a_line_and_an_image_without_one_too() {
        let image = |tags: &[&str], digests: &[&str]| Image {
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            ..Default::default()
        };
        let pair = |name: &str, tag: &str| (name.to_owned(), tag.to_owned());
        assert_eq!(
            tags(&image(&["docker.io/a:1", "localhost:5000/b:2"], &[])),
            [pair("docker.io/a", "1"), pair("localhost:5000/b", "2")]
        );
        assert_eq!(tags(&image(&[], &["docker.io/a@sha256:00"])), [pair("docker.io/a", "<none>")]);
        assert_eq!(tags(&image(&[], &[])), [pair("<none>", "<none>")]);
    }
}
