//! The journal on disk: how batches of log records are framed, what may be believed after a crash, and what entries say.
//!
//! [`frame`] is the format, [`scan`] the rule that tells a torn tail from corruption, [`review`] shows all that stands in a segment,
//! [`entry`] the content of an entry,
//! [`applied`] the row that counts applied entries, [`members`] the row of the masters,
//! [`membership`] how they change, [`install`] how a copy of the state takes its place. All are pure; `master` moves the bytes.

pub mod applied;
pub mod entry;
pub mod frame;
pub mod install;
pub mod members;
pub mod membership;
pub mod review;
pub mod scan;
