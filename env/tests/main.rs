//! The configuration as a whole, from what is said to what comes of it.

mod flags;
mod merge;
mod precedence;
mod reference;
mod refusals;
mod server;
