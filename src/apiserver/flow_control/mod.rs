//! API priority and fairness: which requests wait for which.

pub(crate) mod dangling;
