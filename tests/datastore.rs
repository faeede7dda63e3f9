//! Datastores of other programs, which tests start for themselves: processes in folders of their own, on ports of their
//! own, that end with the test. What does not work as it should panics.

pub mod certificates;
pub mod database;
pub mod etcd;
