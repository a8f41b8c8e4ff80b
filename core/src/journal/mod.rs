//! The journal on disk: how batches of log records are framed, and what may be believed after a crash.
//!
//! [`frame`] is the format, [`scan`] the rule that tells a torn tail from corruption. Both are pure; `master` moves the bytes.

pub mod frame;
pub mod scan;
