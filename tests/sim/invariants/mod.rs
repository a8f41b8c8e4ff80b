//! What must hold, one invariant a file. Each states it and finds what breaks it; what is found begins with the invariant's number.

pub(crate) mod i01_acknowledged_is_kept;
pub(crate) mod i05_all_or_nothing;
pub(crate) mod i07_one_log;
pub(crate) mod i08_no_stale_read;
pub(crate) mod i11_equal_states;
pub(crate) mod i12_no_journal_is_cut;
pub(crate) mod i15_sessions_live_on;
pub(crate) mod i16_names_have_one_history;
pub(crate) mod i21_recorded_replicas_are_there;
pub(crate) mod i28_everybody_gets_on;
pub(crate) mod i32_fsck_finds_nothing;

use crate::linear::Span;

fn show<C: std::fmt::Debug>(history: &[Span<C>]) -> String {
    let one = |span: &Span<C>| format!("{}..{} {:?}", span.begun, span.ended.unwrap_or(0), span.call);
    history.iter().map(one).collect::<Vec<_>>().join(", ")
}
