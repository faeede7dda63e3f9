//! Events that are too long for who reads them (`--audit-log-truncate-*`, `--audit-webhook-truncate-*`).

use super::event::Event;

/// How long events may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncate {
    /// Bytes of one event. A longer one loses the objects of request and answer; if it is still too long, it is lost.
    pub max_event_size: usize,
    /// Bytes of events that are delivered together.
    pub max_batch_size: usize,
}

impl Default for Truncate {
    fn default() -> Self {
        Self { max_event_size: 100 << 10, max_batch_size: 10 << 20 }
    }
}

/// An event as `encode` writes it; `None`: it is too long whatever is left out.
pub(super) fn fitted(limits: Option<Truncate>, event: &Event, encode: fn(&Event) -> Vec<u8>) -> Option<Vec<u8>> {
    let text = encode(event);
    let Some(Truncate { max_event_size, .. }) = limits else { return Some(text) };
    if text.len() <= max_event_size {
        return Some(text);
    }
    Some(encode(&event.without_objects())).filter(|text| text.len() <= max_event_size)
}
