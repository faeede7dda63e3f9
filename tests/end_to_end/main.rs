//! What a user does with k3s, with the real binary, from an empty home.

mod bad_input;
mod clients;
mod command_line;
mod datastore;
mod install;
mod isolation;
mod kine;
mod node_flags;
mod pods;
mod reload;
mod root;
mod rootless;
mod web;
