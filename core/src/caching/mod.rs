//! Shared leases: what a client may believe about names and attributes without asking, and how the leader takes it back.
//!
//! A session that holds an inode is told of every change to it before the change is acknowledged to anybody: of its
//! attributes and map, and of the names in it when it is a directory. [`table`] is the leader's side, [`cache`] the
//! client's, [`changes`] what an entry of the journal changes for them, [`ahead`] what is worth being held before it is
//! asked for.
//!
//! Laws (DESIGN section 3, "Leases and caching"):
//! - A change is acknowledged only after every other holder has said that it no longer believes the old, or its lease has
//!   run out: [`crate::limits::SHARED_LEASE_TERM`] after the leader *received* the last renewal that it granted. The client
//!   counts a shorter term from *sending* it.
//! - What a client has read counts only if nothing of it was taken back between asking and hearing.
//! - What an operation of the client's own may change it does not believe before the answer: others may have seen it changed.
//! - An acknowledgement never waits for anything but memory: two clients may wait for each other's.
//! - A new connection begins without leases: the client forgets before it says hello.

pub mod ahead;
#[cfg(test)]
mod ahead_test;
pub mod cache;
#[cfg(test)]
mod caching_test;
pub mod changes;
pub mod table;
mod under_way;
