//! What operators are told of a cluster, as values: what happened and why.

pub mod capacity;
pub mod event;
pub mod recent;
pub mod watch;
pub mod why;
