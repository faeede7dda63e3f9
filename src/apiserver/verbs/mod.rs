//! One function per verb, for every resource.

pub(crate) mod binding;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod eviction;
pub(crate) mod get;
pub(crate) mod input;
pub(crate) mod list;
pub(crate) mod managed;
pub(crate) mod patch;
mod requestor;
pub(crate) mod selection;
mod settle;
pub(crate) mod subresource;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod watch;
mod yaml;
