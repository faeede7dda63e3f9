//! list: objects of a collection, from the watch cache where it holds the revision asked for, else from the datastore.

use std::sync::Arc;

use http::Response;
use k3s_api::status::Status;
use k3s_kine::{Error as DatastoreError, Revision};

use super::selection::Selection;
use super::token::Token;
use crate::Body;
use crate::call::Call;
use crate::encode::{self, ListMeta};
use crate::options::{ListOptions, VersionMatch};
use crate::registry::{Entry, Error};

/// What a page of a list is made of.
pub(crate) struct Page {
    pub meta: ListMeta,
    pub entries: Vec<Arc<Entry>>,
}

/// Answers with a page of the objects that are selected.
pub(crate) async fn list(call: &Call, options: &ListOptions) -> Result<Response<Body>, Status> {
    let selection = Selection::parse(&call.row, options)?;
    let page = page(call, options, &selection).await?;
    encode::list(call, &page.meta, page.entries)
}

/// A page of the objects that are selected, in the call's version.
pub(crate) async fn page(call: &Call, options: &ListOptions, selection: &Selection) -> Result<Page, Status> {
    let mut page = stored_page(call, options, selection).await?;
    page.entries = call.conversion().entries(&call.row, page.entries).await?;
    Ok(page)
}

async fn stored_page(call: &Call, options: &ListOptions, selection: &Selection) -> Result<Page, Status> {
    let registry = call.registry();
    let cache = registry.cache(&call.row).await?;
    let namespace = call.namespace();
    if !options.continue_token.is_empty() {
        return next_page(call, options, selection).await;
    }
    let asked = options.resource_version.map(|version| Revision::try_from(version).unwrap_or(i64::MAX));
    let seen = match asked {
        None => registry.catch_up().await?,
        Some(0) => registry.revision(),
        Some(revision) => registry.wait_for(revision).await?,
    };
    if let (Some(revision), Some(VersionMatch::Exact)) = (asked, options.version_match)
        && cache.revision() > revision
    {
        return at_revision(call, options, selection, "", revision).await;
    }
    let listing = cache.list(namespace);
    // Between the wait and the listing the resource may have changed again.
    let revision = match (asked, options.version_match) {
        (Some(revision), Some(VersionMatch::Exact)) if listing.revision <= revision => revision,
        _ => listing.revision.max(seen),
    };
    Ok(cut(options, selection, selection.among(call, listing.entries).await?, revision))
}

/// Ends the page where the limit says. What is left is counted only where that is exact: without selectors.
fn cut(options: &ListOptions, selection: &Selection, mut entries: Vec<Arc<Entry>>, revision: Revision) -> Page {
    // Who takes any version gets it from the cache, which Kubernetes doesn't page.
    let unpaged = options.resource_version == Some(0) && options.continue_token.is_empty();
    let mut meta = ListMeta { resource_version: revision.to_string(), ..ListMeta::default() };
    if options.limit > 0 && entries.len() > options.limit && !unpaged {
        let left = entries.len() - options.limit;
        entries.truncate(options.limit);
        let after = entries.last().map(|entry| entry.key().to_string()).unwrap_or_default();
        meta.continue_token = Token { revision, after }.encode();
        meta.remaining = selection.is_everything().then_some(left);
    }
    Page { meta, entries }
}

async fn next_page(call: &Call, options: &ListOptions, selection: &Selection) -> Result<Page, Status> {
    if options.resource_version.is_some_and(|version| version != 0) {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let token = Token::decode(&options.continue_token)?;
    let cache = call.registry().cache(&call.row).await?;
    if token.revision <= 0 {
        let seen = call.registry().catch_up().await?;
        let listing = cache.list_after(call.namespace(), Some(&token.after));
        let revision = listing.revision.max(seen);
        return Ok(cut(options, selection, selection.among(call, listing.entries).await?, revision));
    }
    call.registry().wait_for(token.revision).await?;
    let listing = cache.list_after(call.namespace(), Some(&token.after));
    if listing.revision <= token.revision {
        return Ok(cut(options, selection, selection.among(call, listing.entries).await?, token.revision));
    }
    at_revision(call, options, selection, &format!("{}\0", token.after), token.revision).await
}

/// A page as it was at a revision that the cache has left behind.
async fn at_revision(
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
    start: &str,
    revision: Revision,
) -> Result<Page, Status> {
    let mut start = start.to_owned();
    let mut entries = Vec::new();
    let mut meta = ListMeta { resource_version: revision.to_string(), ..ListMeta::default() };
    loop {
        let range = call.registry().range_at(&call.row, call.namespace(), &start, options.limit, revision).await;
        let range = range.map_err(|error| expired(error, &start))?;
        let (count, got) = (usize::try_from(range.count).unwrap_or_default(), range.kvs.len());
        for kv in &range.kvs {
            let entry = call.registry().entry(&call.row, kv)?;
            start = format!("{}\0", entry.key());
            if !selection.among(call, vec![Arc::clone(&entry)]).await?.is_empty() {
                entries.push(entry);
            }
            if options.limit > 0 && entries.len() == options.limit {
                break;
            }
        }
        let full = options.limit > 0 && entries.len() == options.limit;
        if full
            && (range.more
                || range.kvs.last().is_some_and(|kv| !kv.key.ends_with(start.trim_end_matches('\0').as_bytes())))
        {
            let after = start.trim_end_matches('\0').to_owned();
            meta.continue_token = Token { revision, after }.encode();
            meta.remaining = (selection.is_everything() && count > got).then(|| count - got);
        }
        if full || !range.more {
            return Ok(Page { meta, entries });
        }
    }
}

/// 410: the revision of the list has been compacted.
fn expired(error: Error, start: &str) -> Status {
    match error {
        Error::Datastore(DatastoreError::Compacted { .. }) if !start.is_empty() => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new list \
             without the continue parameter.",
        ),
        Error::Datastore(DatastoreError::Compacted { .. }) => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        error => error.into(),
    }
}
