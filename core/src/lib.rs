//! The laws of Cairn: pure code without I/O, clocks, randomness or tasks.
//!
//! A file stands here only if it is vocabulary (`ids`, `units`, `address`, `limits`, `error`) or has one of four shapes:
//! a log machine (`decide` may refuse, `apply` may not), a planner (a view in, jobs out), a session (events in,
//! commands and deadlines out), or a codec (bytes in, values out, never a panic).

pub mod address;
pub mod backup;
pub mod caching;
pub mod checksum;
pub mod chunk;
pub mod cluster;
pub mod error;
pub mod explain;
pub mod fsck;
pub mod ids;
pub mod io;
pub mod journal;
pub mod limits;
pub mod namespace;
pub mod seeded;
pub mod session;
pub mod superblock;
pub mod time;
pub mod units;
