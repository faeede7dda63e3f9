//! Answers in HTTP/2 that their client does not take.
//!
//! A client that reads nothing fills its socket, which [`super::stalled`] notices. In HTTP/2 it may read its socket,
//! answer pings, and yet open no window for the data of a stream: then nothing is written, and what the stream holds
//! would be held as long as the connection lasts.
//!
//! HTTP/2 sends a part of a body when there is some window for it, and asks for the next one then. A body that has given
//! a part and has not been asked for another since waits for the client. As a part is sent as soon as one byte of it
//! fits, parts are made small, and the last byte of a body is a part of its own: what comes before it has been taken.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tower::BoxError;

use super::Peer;

/// HTTP/2's own limit for the data of a frame, if the client does not ask for more.
const PART: usize = 16 << 10;

/// The answers of one connection that wait for their client, each since when.
#[derive(Debug, Default)]
pub(super) struct Unread(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    since: BTreeMap<u64, Instant>,
    next: u64,
}

impl Unread {
    /// Whether an answer has waited for longer than that.
    pub fn longer_than(&self, patience: Duration) -> bool {
        self.0.lock().since.values().any(|since| since.elapsed() > patience)
    }

    fn begin(&self) -> u64 {
        let mut waiting = self.0.lock();
        let id = waiting.next;
        waiting.next += 1;
        waiting.since.insert(id, Instant::now());
        id
    }

    fn end(&self, id: u64) {
        self.0.lock().since.remove(&id);
    }
}

/// The body of an answer. In HTTP/2 it tells [`Unread`] when it waits for its client.
pub(super) struct Answer<B> {
    body: B,
    of: Option<Stream>,
    /// What is left of the part that the body gave last.
    rest: Bytes,
    ahead: Ahead,
}

/// One stream of an HTTP/2 connection.
struct Stream {
    unread: Arc<Unread>,
    /// Says whether the client may take its time.
    peer: Peer,
    waiting: Option<u64>,
}

/// What the body gives next, looked at to know whether what it has given is the last.
enum Ahead {
    Unknown,
    Known(Result<Frame<Bytes>, BoxError>),
    Ended,
}

impl<B> Answer<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// An answer in HTTP/1.1.
    pub fn plain(body: B) -> Self {
        Self { body, of: None, rest: Bytes::new(), ahead: Ahead::Unknown }
    }

    /// An answer to `peer` in a connection over HTTP/2.
    pub fn in_stream(body: B, unread: Arc<Unread>, peer: Peer) -> Self {
        Self { of: Some(Stream { unread, peer, waiting: None }), ..Self::plain(body) }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match std::mem::replace(&mut self.ahead, Ahead::Unknown) {
            Ahead::Known(next) => Poll::Ready(Some(next)),
            Ahead::Ended => {
                self.ahead = Ahead::Ended;
                Poll::Ready(None)
            }
            Ahead::Unknown => self.poll_body(cx),
        }
    }

    /// Whether nothing comes after what the body has given. A body that does not say so is asked for more.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if matches!(self.ahead, Ahead::Unknown) {
            if self.body.is_end_stream() {
                self.ahead = Ahead::Ended;
            } else if let Poll::Ready(next) = self.poll_body(cx) {
                self.ahead = next.map_or(Ahead::Ended, Ahead::Known);
            }
        }
        matches!(self.ahead, Ahead::Ended)
    }

    /// The next part of what the body has given.
    fn part(&mut self, cx: &mut Context<'_>) -> Bytes {
        match self.rest.len() {
            0 | 1 => std::mem::take(&mut self.rest),
            more if more > PART => self.rest.split_to(PART),
            some if self.is_over(cx) => self.rest.split_to(some - 1),
            _ => std::mem::take(&mut self.rest),
        }
    }
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(stream) = &mut this.of else { return this.poll_body(cx) };
        stream.taken();
        if this.rest.is_empty() {
            match ready!(this.poll_next(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let part = this.part(cx);
        if let Some(stream) = &mut this.of {
            stream.given();
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match self.ahead {
                Ahead::Unknown => self.body.is_end_stream(),
                Ahead::Known(_) => false,
                Ahead::Ended => true,
            }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.ahead, self.rest.is_empty()) {
            (Ahead::Unknown, true) => self.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Stream {
    fn given(&mut self) {
        if !self.peer.is_patient() {
            self.waiting = Some(self.unread.begin());
        }
    }

    fn taken(&mut self) {
        if let Some(id) = self.waiting.take() {
            self.unread.end(id);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.taken();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use futures::task::noop_waker;

    use super::*;

    /// Gives parts; then it ends, or, if it lasts, is waited for.
    struct Parts {
        parts: VecDeque<Bytes>,
        lasts: bool,
    }

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.parts.pop_front() {
                None if self.lasts => Poll::Pending,
                next => Poll::Ready(next.map(|part| Ok(Frame::data(part)))),
            }
        }
    }

    fn answer(sizes: &[usize], lasts: bool) -> (Answer<Parts>, Arc<Unread>) {
        let unread = Arc::new(Unread::default());
        let parts = sizes.iter().map(|size| Bytes::from(vec![b'x'; *size])).collect();
        let address = ([127, 0, 0, 1], 1).into();
        let peer = Peer::new(address, address, Vec::new());
        (Answer::in_stream(Parts { parts, lasts }, Arc::clone(&unread), peer), unread)
    }

    /// The sizes of the parts that come without waiting, each with whether it is the last.
    fn given(answer: &mut Answer<Parts>) -> Vec<(usize, bool)> {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        std::iter::from_fn(|| match Pin::new(&mut *answer).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => Some((frame.into_data().expect("data").len(), answer.is_end_stream())),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn parts_are_small_and_the_last_byte_is_one_of_its_own() {
        let (mut short, _) = answer(&[100], false);
        assert_eq!(given(&mut short), [(99, false), (1, true)]);
        let (mut long, _) = answer(&[PART + 7, 5], false);
        assert_eq!(given(&mut long), [(PART, false), (7, false), (4, false), (1, true)]);
        let (mut whole, _) = answer(&[PART], false);
        assert_eq!(given(&mut whole), [(PART - 1, false), (1, true)]);
        let (mut byte, _) = answer(&[1], false);
        // Nothing is there to be held back.
        assert_eq!(given(&mut byte).iter().map(|(size, _)| size).sum::<usize>(), 1);
    }

    #[test]
    fn what_comes_later_holds_nothing_back() {
        let (mut events, unread) = answer(&[100], true);
        assert_eq!(given(&mut events), [(100, false)]);
        assert!(!unread.longer_than(Duration::ZERO), "it waits for an event, not for the client");
    }

    #[test]
    fn an_answer_waits_from_when_it_gave_until_it_is_asked_again() {
        let (mut answer, unread) = answer(&[100, 100], false);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(!unread.longer_than(Duration::ZERO));
        assert!(Pin::new(&mut answer).poll_frame(&mut cx).is_ready());
        while !unread.longer_than(Duration::ZERO) {
            std::thread::yield_now();
        }
        assert!(!unread.longer_than(Duration::from_secs(3600)));
        drop(answer);
        assert!(!unread.longer_than(Duration::ZERO));
    }

    #[test]
    fn a_patient_answer_waits_for_ever() {
        let (mut answer, unread) = answer(&[100], false);
        answer.of.as_ref().expect("a stream").peer.set_patient(true);
        assert_eq!(given(&mut answer).len(), 2);
        assert!(unread.0.lock().since.is_empty());
    }
}
