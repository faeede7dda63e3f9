//! The order of merged lists: what the patch says comes first, what only the server has keeps its place as well as it
//! can.

use serde_json::Value;

use super::PATCH;

/// Whether two elements are the same: by merge key, or by value in a list of scalars.
fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

fn index(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| same(other, item, key))
}

/// `merged` in the order of `wanted`; elements that are not in `wanted` are put in by their place in `server`, each
/// before the first one that stood behind it there.
pub(super) fn arrange(merged: Vec<Value>, wanted: &[Value], server: &[Value], key: Option<&str>) -> Vec<Value> {
    let (mut patched, mut only_server): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|item| index(wanted, item, key).is_some());
    patched.sort_by_key(|item| index(wanted, item, key));
    only_server.sort_by_key(|item| index(server, item, key));
    let mut arranged = Vec::with_capacity(patched.len() + only_server.len());
    let (mut patched, mut only_server) = (patched.into_iter().peekable(), only_server.into_iter().peekable());
    loop {
        let server_first = match (only_server.peek(), patched.peek()) {
            (Some(left), Some(right)) => {
                let places = index(server, left, key).zip(index(server, right, key));
                places.is_some_and(|(left, right)| left < right)
            }
            (Some(_), None) => true,
            (None, _) => false,
        };
        match if server_first { only_server.next() } else { patched.next() } {
            Some(item) => arranged.push(item),
            None => return arranged,
        }
    }
}

/// Whether the elements of the patch stand in `wanted`, in the same order. Elements to be deleted don't count.
pub(super) fn agrees(patched: &[Value], wanted: &[Value], key: Option<&str>) -> bool {
    if patched.is_empty() || wanted.is_empty() {
        return true;
    }
    let mut wanted = wanted.iter();
    let kept = |item: &&Value| item.get(PATCH).and_then(Value::as_str) != Some("delete");
    patched.iter().filter(kept).all(|item| wanted.any(|other| same(other, item, key)))
}
