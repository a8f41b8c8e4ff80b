//! The leader's read lease: until when nobody else can lead.
//!
//! Each heartbeat carries the leader's own clock, and its response brings it back. A follower that answered promised to vote
//! for nobody else for [`RAFT_PROMISE`](cairn_core::limits::RAFT_PROMISE) from its receipt, which is later than its sending;
//! so for [`READ_LEASE`] from the sending of what a majority answered, no other member can be elected. Only differences of one
//! machine's clock are used, and a clock that runs 10 % faster than another's is allowed for.

use cairn_core::limits::READ_LEASE;
use cairn_core::time::Tick;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// What the responses say; owned by the Raft machine.
#[derive(Debug)]
pub(crate) struct ReadLease {
    answered: BTreeMap<u64, Tick>,
    clock: LeaseClock,
}

impl ReadLease {
    pub(crate) fn new() -> Self {
        Self { answered: BTreeMap::new(), clock: LeaseClock::default() }
    }

    /// For those who read.
    pub(crate) fn clock(&self) -> &LeaseClock {
        &self.clock
    }

    /// Another term or role: what was answered before does not count for it.
    pub(crate) fn reset(&mut self) {
        self.answered.clear();
        self.clock.set(NEVER);
    }

    /// This member is the whole group: nobody else can lead.
    pub(crate) fn alone(&self) {
        self.clock.set(FOR_EVER);
    }

    /// Member `from` has answered the heartbeat sent at `sent`; `voters` vote, `me` among them.
    pub(crate) fn answered(&mut self, from: u64, sent: Tick, voters: &[u64], me: u64) {
        let latest = self.answered.entry(from).or_insert(sent);
        *latest = (*latest).max(sent);
        let mut others: Vec<Tick> = voters
            .iter()
            .filter(|&&voter| voter != me)
            .filter_map(|voter| self.answered.get(voter))
            .copied()
            .collect();
        // With this member a majority: the needed-th latest of the others.
        let needed = voters.len() / 2;
        if needed == 0 || others.len() < needed {
            return;
        }
        others.sort_unstable_by(|a, b| b.cmp(a));
        self.clock.advance(others[needed - 1]);
    }
}

const NEVER: u64 = 0;
const FOR_EVER: u64 = u64::MAX;

/// The moment of sending of the latest heartbeat that a majority has answered, as its readers see it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LeaseClock {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sent_nanos: AtomicU64,
    moved: Notify,
}

impl LeaseClock {
    /// Whether nobody else can have led up to `now`.
    pub(crate) fn holds(&self, now: Tick) -> bool {
        match self.shared.sent_nanos.load(Ordering::SeqCst) {
            NEVER => false,
            FOR_EVER => true,
            sent => nanos(now) < sent.saturating_add(READ_LEASE.as_nanos() as u64),
        }
    }

    /// Whether a majority has answered a heartbeat sent after `then`: nobody else led at that moment.
    pub(crate) fn confirms(&self, then: Tick) -> bool {
        self.shared.sent_nanos.load(Ordering::SeqCst) > nanos(then)
    }

    /// Waits until [`LeaseClock::confirms`], at most for `patience`. False when it did not come to that.
    pub(crate) async fn confirmed(&self, then: Tick, patience: Duration) -> bool {
        let wait = async {
            loop {
                let moved = self.shared.moved.notified();
                if self.confirms(then) {
                    return;
                }
                moved.await;
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    fn advance(&self, sent: Tick) {
        let before = self.shared.sent_nanos.fetch_max(nanos(sent), Ordering::SeqCst);
        if before < nanos(sent) {
            self.shared.moved.notify_waiters();
        }
    }

    fn set(&self, sent: u64) {
        self.shared.sent_nanos.store(sent, Ordering::SeqCst);
        self.shared.moved.notify_waiters();
    }
}

fn nanos(tick: Tick) -> u64 {
    // 0 stands for never.
    u64::try_from(tick.0.as_nanos()).unwrap_or(FOR_EVER - 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick(Duration::from_millis(millis))
    }

    #[test]
    fn a_majority_counts_and_the_slowest_of_it_decides() {
        let mut lease = ReadLease::new();
        let clock = lease.clock().clone();
        assert!(!clock.holds(at(1)));
        let five = [1, 2, 3, 4, 5];
        lease.answered(2, at(1000), &five, 1);
        assert!(!clock.holds(at(1001)), "two of five");
        lease.answered(3, at(1040), &five, 1);
        assert!(clock.holds(at(1159)));
        assert!(!clock.holds(at(1160)), "160 ms from the sending of what the majority answered");
        lease.answered(2, at(1080), &five, 1);
        assert!(clock.holds(at(1199)));
        lease.answered(9, at(5000), &five, 1);
        assert!(!clock.holds(at(1201)), "who does not vote does not count");
    }

    #[test]
    fn late_and_doubled_answers_take_nothing_back() {
        let mut lease = ReadLease::new();
        let clock = lease.clock().clone();
        lease.answered(2, at(1000), &[1, 2, 3], 1);
        lease.answered(2, at(500), &[1, 2, 3], 1);
        assert!(clock.holds(at(1100)));
        assert!(clock.confirms(at(999)) && !clock.confirms(at(1000)));
        lease.reset();
        assert!(!clock.holds(at(1100)));
        lease.alone();
        assert!(clock.holds(at(1 << 40)));
    }

    #[tokio::test]
    async fn a_reader_waits_for_the_next_answers() {
        let mut lease = ReadLease::new();
        let clock = lease.clock().clone();
        assert!(!clock.confirmed(at(10), Duration::from_millis(5)).await);
        let waiting = tokio::spawn(async move { clock.confirmed(at(10), Duration::from_secs(5)).await });
        tokio::task::yield_now().await;
        lease.answered(2, at(11), &[1, 2, 3], 1);
        assert!(waiting.await.unwrap());
    }
}
