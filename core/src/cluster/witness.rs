//! What clients say of chunk servers, and when the master acts on it. Time is an argument.
//!
//! One client may lie, or stand behind a broken cable: what it says of a server counts when another one says the same, or when the
//! master itself misses the server. Nobody's word is taken for damage: the server is asked to look.

use crate::ids::{ChunkId, ServerId, SessionId};
use crate::limits::{
    REPLICA_CHECK_PAUSE, REPLICA_CHECKS_REMEMBERED, WITNESS_SPAN, WITNESSES_MAX, WITNESSES_NEEDED,
};
use crate::time::Tick;
use std::collections::BTreeMap;

/// What was said of late.
#[derive(Debug, Default)]
pub struct Witnesses {
    doubts: BTreeMap<(ServerId, SessionId), Tick>,
    checks: BTreeMap<(ServerId, ChunkId), Tick>,
}

impl Witnesses {
    /// `by` finds `server` slow or cannot reach it; `is_missed`: so does the master. True when that is enough to act on.
    pub fn doubt(&mut self, server: ServerId, by: SessionId, is_missed: bool, now: Tick) -> bool {
        self.doubts.retain(|_, when| now.since(*when) < WITNESS_SPAN);
        if self.doubts.len() < WITNESSES_MAX || self.doubts.contains_key(&(server, by)) {
            self.doubts.insert((server, by), now);
        }
        let witnesses = self.doubts.range((server, SessionId(0))..=(server, SessionId(u64::MAX))).count();
        is_missed || witnesses >= WITNESSES_NEEDED
    }

    /// Somebody got bytes of `chunk` from `server` that do not verify. True when the server is to look now.
    pub fn wants_check(&mut self, server: ServerId, chunk: ChunkId, now: Tick) -> bool {
        self.checks.retain(|_, when| now.since(*when) < REPLICA_CHECK_PAUSE);
        if self.checks.len() >= REPLICA_CHECKS_REMEMBERED || self.checks.contains_key(&(server, chunk)) {
            return false;
        }
        self.checks.insert((server, chunk), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    #[test]
    fn two_clients_or_one_and_the_master_agree() {
        let mut witnesses = Witnesses::default();
        let (server, one, two) = (ServerId(1), SessionId(7), SessionId(8));
        assert!(!witnesses.doubt(server, one, false, at(100)));
        assert!(!witnesses.doubt(server, one, false, at(101)), "the same again");
        assert!(!witnesses.doubt(ServerId(2), two, false, at(101)), "of another server");
        assert!(witnesses.doubt(server, two, false, at(101)));
        assert!(!witnesses.doubt(server, two, false, at(200)), "the other was long ago");
        assert!(witnesses.doubt(server, two, true, at(200)));
    }

    #[test]
    fn a_replica_is_looked_at_once_in_a_while_and_not_too_many() {
        let mut witnesses = Witnesses::default();
        assert!(witnesses.wants_check(ServerId(1), ChunkId(1), at(100)));
        assert!(!witnesses.wants_check(ServerId(1), ChunkId(1), at(101)));
        let begun = (2..10_000).filter(|&chunk| witnesses.wants_check(ServerId(1), ChunkId(chunk), at(101)));
        assert_eq!(begun.count(), REPLICA_CHECKS_REMEMBERED - 1);
        assert!(witnesses.wants_check(ServerId(1), ChunkId(1), at(100).after(REPLICA_CHECK_PAUSE)));
    }
}
