//! `ctr images import`, `export`, `rm` and `tag`: what our runtime does beyond CRI.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::connection::Connection;
use crate::error::Error;
use crate::local::{self, Body};
use crate::output::line;
use crate::standard;

const PIECE: usize = 64 * 1024;

pub(super) fn socket(cri: &Connection, doing: &str) -> Result<PathBuf, Error> {
    local::beside(&cri.socket).ok_or_else(|| Error::Local {
        doing: doing.to_owned(),
        detail: format!("the runtime at {} is not k3s's own; use its own tool", cri.socket.display()),
    })
}

/// A stream as a body.
fn body(from: impl AsyncRead + Send + Sync + Unpin + 'static) -> Body {
    let frames = stream::unfold(from, |mut from| async move {
        let mut piece = Vec::with_capacity(PIECE);
        match from.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok::<_, io::Error>(Frame::data(Bytes::from(piece))), from)),
            Err(error) => Some((Err(error), from)),
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// Imports an archive and tells the images' names.
pub async fn import(cri: &Connection, path: &Path) -> Result<(), Error> {
    let doing = format!("import {}", path.display());
    let failed = |detail: String| Error::Local { doing: doing.clone(), detail };
    let socket = socket(cri, &doing)?;
    let archive = if path == Path::new("-") {
        body(standard::input()?)
    } else {
        body(File::open(path).await.map_err(|error| failed(error.to_string()))?)
    };
    let answer = local::ask(&socket, &doing, Method::POST, "/images/import", archive).await?;
    let names = answer.into_body().collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
    let names: Vec<String> = serde_json::from_slice(&names).map_err(|error| failed(error.to_string()))?;
    names.iter().try_for_each(|name| line(format_args!("unpacking {name}...done")))
}

/// Writes images into an archive. One that could not be written whole is not left.
pub async fn export(cri: &Connection, path: &Path, images: &[String]) -> Result<(), Error> {
    let doing = format!("export {}", images.join(", "));
    let socket = socket(cri, &doing)?;
    let names: Vec<(&str, &str)> = images.iter().map(|image| ("name", image.as_str())).collect();
    let place = local::path("/images/export", &names);
    let answer = local::ask(&socket, &doing, Method::GET, &place, local::nothing()).await?;
    let failed = |detail: String| Error::Local { doing: doing.clone(), detail };
    if path == Path::new("-") {
        return write(answer.into_body(), standard::output()?).await.map_err(failed);
    }
    let file = File::create(path).await.map_err(|error| failed(format!("{}: {error}", path.display())))?;
    if let Err(detail) = write(answer.into_body(), file).await {
        // What counts is why it failed.
        let _ = tokio::fs::remove_file(path).await;
        return Err(failed(detail));
    }
    Ok(())
}

async fn write(mut from: hyper::body::Incoming, mut to: impl AsyncWrite + Unpin) -> Result<(), String> {
    while let Some(frame) = from.frame().await {
        if let Ok(piece) = frame.map_err(|error| error.to_string())?.into_data() {
            to.write_all(&piece).await.map_err(|error| error.to_string())?;
        }
    }
    to.flush().await.map_err(|error| error.to_string())
}

/// Takes names away.
pub async fn remove(cri: &Connection, images: &[String]) -> Result<(), Error> {
    for image in images {
        let doing = format!("remove {image}");
        let place = local::path("/images", &[("name", image)]);
        local::ask(&socket(cri, &doing)?, &doing, Method::DELETE, &place, local::nothing()).await?;
        line(image)?;
    }
    Ok(())
}

/// Gives an image names.
pub async fn tag(cri: &Connection, image: &str, names: &[String]) -> Result<(), Error> {
    for name in names {
        let doing = format!("tag {image} as {name}");
        let place = local::path("/images/tag", &[("image", image), ("name", name)]);
        local::ask(&socket(cri, &doing)?, &doing, Method::POST, &place, local::nothing()).await?;
        line(name)?;
    }
    Ok(())
}
