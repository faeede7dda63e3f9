//! What a runtime answers when it refuses.

/// Why a call failed. The kubelet turns these into the waiting and terminated reasons users know.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No sandbox, container or image of that id or name.
    #[error("{what} not found")]
    NotFound { what: String },
    /// Something of that id or name is there already.
    #[error("{what} already exists")]
    AlreadyExists { what: String },
    /// The request makes no sense (bad image reference, bad user, container path not absolute, …).
    #[error("{detail}")]
    InvalidArgument { detail: String },
    /// The object is not in the state the call needs (exec in a stopped container, …).
    #[error("{detail}")]
    FailedPrecondition { detail: String },
    /// No registry that was asked has the image. `image` is the full reference.
    #[error("failed to pull and unpack image {image:?}: failed to resolve reference {image:?}: {detail}")]
    ImageNotFound { image: String, detail: String },
    /// The image could not be had: unauthorized, unreachable registry, damaged, no image for this platform.
    #[error("failed to pull and unpack image {image:?}: {detail}")]
    Pull { image: String, detail: String },
    /// The container's process could not be started: command not found, permission denied, bad working directory.
    #[error("failed to start container: {detail}")]
    Start { detail: String },
    /// No space left on the device.
    #[error("{doing}: no space left on device")]
    NoSpace { doing: String },
    /// The call did not end in the time it was given.
    #[error("{doing}: timed out")]
    Timeout { doing: String },
    /// The runtime can't do this on this host or can't do it at all.
    #[error("{detail}")]
    Unimplemented { detail: String },
    /// Anything else.
    #[error("{doing}: {detail}")]
    Internal { doing: String, detail: String },
}

impl Error {
    /// Name of the gRPC status code that CRI has for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::ImageNotFound { .. } => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::InvalidArgument { .. } => "InvalidArgument",
            Self::FailedPrecondition { .. } => "FailedPrecondition",
            Self::NoSpace { .. } => "ResourceExhausted",
            Self::Timeout { .. } => "DeadlineExceeded",
            Self::Unimplemented { .. } => "Unimplemented",
            // As containerd, which has no code for these.
            Self::Pull { .. } | Self::Start { .. } | Self::Internal { .. } => "Unknown",
        }
    }

    /// As a kubelet prints what a runtime answered, and as users know it from events.
    pub fn rpc(&self) -> String {
        format!("rpc error: code = {} desc = {self}", self.code())
    }
}
