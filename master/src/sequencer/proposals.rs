//! What is decided and not yet handed to Raft. A leader hands in one batch at a time: what comes while that is under way makes
//! the next one, since messages, writes and answers cost every member as much for one entry as for many. A batch that takes
//! long holds the next one up for [`SEQUENCER_HOLD_MAX`] only: with members far away, or slow ones, several are under way.

use bytes::Bytes;
use cairn_core::ids::LogIndex;
use cairn_core::limits::{SEQUENCER_BATCH_BYTES_MAX, SEQUENCER_HOLD_MAX};
use cairn_core::time::Tick;

/// Data of entries, in the order of the log.
#[derive(Default)]
pub(super) struct Proposals {
    waiting: Vec<Bytes>,
    bytes: usize,
    /// The last entry that was handed in, and when.
    handed_in: Option<(LogIndex, Tick)>,
}

impl Proposals {
    pub(super) fn push(&mut self, data: Bytes) {
        self.bytes += data.len();
        self.waiting.push(data);
    }

    /// No more fits into this batch.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= SEQUENCER_BATCH_BYTES_MAX
    }

    /// From when on they may be handed in, while the log is committed up to `committed`; `None` when there are none.
    pub(super) fn due(&self, committed: LogIndex) -> Option<Tick> {
        if self.waiting.is_empty() {
            return None;
        }
        match self.handed_in {
            Some((last, since)) if last > committed && !self.is_full() => {
                Some(since.after(SEQUENCER_HOLD_MAX))
            }
            _ => Some(Tick::default()),
        }
    }

    /// Hands them out as the entries that end with `last`. Returns the first one's index with them.
    pub(super) fn hand_in(&mut self, last: LogIndex, now: Tick) -> (LogIndex, Vec<Bytes>) {
        let first = LogIndex(last.get() + 1 - self.waiting.len() as u64);
        self.handed_in = Some((last, now));
        self.bytes = 0;
        (first, std::mem::take(&mut self.waiting))
    }

    /// The lead is lost: they are void, and so may be what is under way.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(SEQUENCER_HOLD_MAX);

    #[test]
    fn one_batch_at_a_time_is_under_way() {
        let mut proposals = Proposals::default();
        assert_eq!(proposals.due(LogIndex(0)), None);
        proposals.push(Bytes::from_static(b"first"));
        assert_eq!(proposals.due(LogIndex(0)), Some(Tick::default()), "nothing is under way");
        assert_eq!(proposals.hand_in(LogIndex(1), NOW).0, LogIndex(1));
        assert_eq!(proposals.due(LogIndex(0)), None);
        proposals.push(Bytes::from_static(b"second"));
        proposals.push(Bytes::from_static(b"third"));
        assert_eq!(proposals.due(LogIndex(0)), Some(NOW.after(SEQUENCER_HOLD_MAX)));
        assert_eq!(proposals.due(LogIndex(1)), Some(Tick::default()), "it is committed");
        let (first, data) = proposals.hand_in(LogIndex(3), NOW);
        assert_eq!((first, data.len()), (LogIndex(2), 2));
    }

    #[test]
    fn a_full_batch_waits_for_nothing() {
        let mut proposals = Proposals::default();
        proposals.push(Bytes::from_static(b"first"));
        proposals.hand_in(LogIndex(1), NOW);
        proposals.push(Bytes::from(vec![0; SEQUENCER_BATCH_BYTES_MAX]));
        assert!(proposals.is_full());
        assert_eq!(proposals.due(LogIndex(0)), Some(Tick::default()));
    }

    #[test]
    fn who_lost_the_lead_owes_nothing() {
        let mut proposals = Proposals::default();
        proposals.push(Bytes::from_static(b"first"));
        proposals.hand_in(LogIndex(9), NOW);
        proposals.push(Bytes::from_static(b"second"));
        proposals.clear();
        assert_eq!(proposals.due(LogIndex(0)), None);
        proposals.push(Bytes::from_static(b"other"));
        assert_eq!(proposals.due(LogIndex(0)), Some(Tick::default()));
    }
}
