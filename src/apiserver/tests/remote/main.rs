//! Servers that flags name: who may do what is decided by one, audit events are delivered to one, connections lead to
//! one. Each is a real server
//! behind TLS, which may hang, talk nonsense, be away, and come back.

#[path = "../authority/mod.rs"]
mod authority;

mod audit;
mod authorization;
mod cluster;
mod connect;
mod outside;
