//! Response bodies.

mod gather;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};

pub(crate) use gather::Gather;

/// A boxed error, as HTTP bodies carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response: bytes that are already there, or a stream of them.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    /// Parts that are sent one after the other; together they have a known length.
    Parts(VecDeque<Bytes>),
    /// Made while it is sent: watches, logs, relayed connections.
    Stream(BoxStream<'static, Result<Bytes, BoxError>>),
}

impl Body {
    /// A body that is produced while it is read.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Parts(VecDeque::from([bytes.into()]))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Parts(parts) => Poll::Ready(parts.pop_front().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.as_mut().poll_next(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Parts(parts) => parts.is_empty(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Parts(parts) => SizeHint::with_exact(parts.iter().map(|bytes| bytes.len() as u64).sum()),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
