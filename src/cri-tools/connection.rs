//! Speaking with a runtime.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::Error;

/// An answer may have outputs of commands, 16 MiB each.
const MESSAGE_LIMIT: usize = 33 << 20;

/// Clients of a runtime's two services.
pub struct Connection {
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
    /// The runtime service's.
    pub socket: PathBuf,
}

impl Connection {
    /// Connects; `images` where the image service is another's.
    ///
    /// # Errors
    /// When nothing answers within the time.
    pub async fn open(socket: PathBuf, images: Option<PathBuf>, timeout: Duration) -> Result<Self, Error> {
        let channel = channel(&socket, timeout).await?;
        let image_channel = match &images {
            Some(socket) => self::channel(socket, timeout).await?,
            None => channel.clone(),
        };
        let runtime = RuntimeServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        Ok(Self { runtime, images: ImageServiceClient::new(image_channel), socket })
    }
}

async fn channel(socket: &Path, timeout: Duration) -> Result<Channel, Error> {
    let failed = |detail: String| Error::Connect { endpoint: format!("unix://{}", socket.display()), detail };
    let path = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    // What the name is does not matter: the connector knows where to go.
    let endpoint = Endpoint::from_static("http://localhost");
    match tokio::time::timeout(timeout, endpoint.connect_with_connector(connect)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Err(failed(cause))
        }
        Err(_) => Err(failed(format!("no answer within {timeout:?}"))),
    }
}
