//! The client's data path as values: what is mapped, what is waiting to be written, what to read next.
//!
//! Everything here is synchronous and holds no clock. Payloads are shared [`bytes::Bytes`], so nothing is copied by deciding.

pub mod breaker;
pub mod extent_map;
pub mod ranges;
pub mod read_ahead;
pub mod read_plan;
pub mod retry_budget;
pub mod sync_habit;
mod write_run;
pub mod write_session;
