//! Filling a member: one that is new, has lost its disk, or lacks more than the others keep in their journals gets a copy of the
//! leader's state, as it stands in a checkpoint, and follows from there.
//!
//! ```text
//!   member                                          leader
//!   join ── Join ─────────────────────────────────► admit      only when its vote is lost: it follows without one
//!   fetch ◄─ plan, files in bounded parts ───────── serve      checkpoint by hard links, throttled, its journal pinned
//!   fetch: everything synced, opened, compared with the plan; then the record that says so
//!   install (at the next start): journal goes on behind the copy, the copy takes the place of the state
//! ```
//! No state is changed before the whole copy is there; from then on it is installed however often the process dies.

pub(crate) mod admit;
pub(crate) mod fetch;
pub(crate) mod install;
pub(crate) mod promote;
pub(crate) mod serve;
mod transfer;

#[cfg(test)]
mod install_test;

pub(crate) use transfer::{Transfer, Transfers};
