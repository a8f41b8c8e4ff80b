//! The sequencer: the one owner of the namespace. Everything that changes it passes here, in one order.

mod handle;
mod metrics;
mod reader;
mod rows;

pub use handle::{Leadership, RaiseOrder, SequencerHandle, Submitted};
pub use metrics::SequencerMetrics;
pub use reader::Reader;
