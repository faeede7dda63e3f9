//! Lists as protobuf. The length of a list stands before its items, and so all of them are written before the first byte
//! is sent. Of a long list only the beginning is kept meanwhile; the rest is written again when its turn comes.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use k3s_api::protobuf::List;
use k3s_api::status::Status;

use super::{CHUNK, ListMeta, not_writable, stream_body};
use crate::Body;
use crate::body::Gather;
use crate::call::Call;
use crate::registry::{Entry, Row, convert};

/// Not more than so many bytes are kept of what was written to know its length.
const KEPT: usize = 4 << 20;

/// The entries, of the call's resource, as a list.
pub(super) fn list(call: &Call, meta: &ListMeta, entries: Vec<Arc<Entry>>) -> Result<Response<Body>, Status> {
    let row = &call.row;
    let list = List::new(&row.api_version(), &row.list_kind).map_err(not_writable)?;
    let (mut kept, mut length) = (Vec::new(), 0);
    for (index, entry) in entries.iter().enumerate() {
        let item = item(&list, row, entry)?;
        length += item.len();
        if kept.len() == index && length <= KEPT {
            kept.push(item);
        }
    }
    let head = list.head(&meta.of(row), length).map_err(not_writable)?;
    let size = head.len() + length + List::TAIL.len();
    let (row, again) = (row.clone(), entries.into_iter().skip(kept.len()));
    let again = again.map(move |entry| item(&list, &row, &entry));
    let mut items = kept.into_iter().map(Ok).chain(again);
    let (mut head, mut over) = (Some(head), false);
    let chunks = std::iter::from_fn(move || {
        let mut chunk = Gather::with_capacity(CHUNK.min(size) + 4096);
        if let Some(head) = head.take() {
            chunk.put_slice(&head);
        }
        while chunk.len() < CHUNK && !over {
            match items.next() {
                Some(Ok(item)) => chunk.put(&Bytes::from(item), 0),
                // Every item has been written before. The client would see that the list is shorter than it says.
                Some(Err(status)) => {
                    tracing::error!(message = status.message, "cannot write an item of a list again");
                    return None;
                }
                // It goes with the last chunk, so that small lists are one.
                None => {
                    over = true;
                    chunk.put_slice(List::TAIL);
                }
            }
        }
        (!chunk.is_empty()).then(|| chunk.finish())
    });
    Ok(stream_body(call.accept, size, chunks.flatten()))
}

fn item(list: &List, row: &Row, entry: &Entry) -> Result<Vec<u8>, Status> {
    list.item(&*convert::read(row, entry)?).map_err(not_writable)
}
