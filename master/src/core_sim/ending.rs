//! I28: when everything is whole again, everybody gets on.

use super::invariants::{i01_acknowledged_survives, i21_replicas_are_current};
use super::world::World;

/// So many operations are acknowledged in a run, whatever fails.
const OPERATIONS_MIN: u64 = 2000;
const FAULTS_MIN: u64 = 20;

impl World {
    /// The end of a run: every member is there, votes, and has applied everything.
    pub(super) fn check_end(&mut self) {
        let (seed, count) = (self.seed, self.members.len());
        let standing = self.standing();
        assert!(self.leader().is_some(), "seed {seed}: I28: nobody leads: {standing}");
        for at in 0..count {
            let Self { members, canon, invariants, .. } = self;
            let Some(process) = &members[at].process else {
                panic!("seed {seed}: I28: a master is down: {standing}")
            };
            let applied = process.stepped.applied();
            assert_eq!(applied.voters.len(), count, "seed {seed}: I28: not everybody votes: {standing}");
            assert_eq!(applied.last.index.get(), canon.last(), "seed {seed}: I28: a master lags: {standing}");
            invariants.at_rest(seed, members[at].id, &process.stepped, canon);
        }
        self.check_clients();
    }

    /// Everything that was acknowledged is there, and everything that was asked is done.
    pub(super) fn check_clients(&mut self) {
        let seed = self.seed;
        for client in &self.clients {
            assert!(client.conn.is_some(), "seed {seed}: I28: client {} has no session", client.id);
            let pending = client.slots.iter().filter_map(|slot| slot.pending.as_ref()).next();
            let pending = pending.map(|pending| &pending.operation.kind);
            assert!(pending.is_none(), "seed {seed}: I28: client {} still waits for {pending:?}", client.id);
            i01_acknowledged_survives::check(seed, &client.home, &self.canon);
        }
        self.left_behind.iter().for_each(|home| i01_acknowledged_survives::check(seed, home, &self.canon));
        i21_replicas_are_current::check_all(seed, &self.recorded, &self.servers, &self.canon);
        let (operations, faults) = (self.operations, self.faults);
        assert!(faults >= FAULTS_MIN, "seed {seed}: only {faults} faults");
        assert!(
            operations >= OPERATIONS_MIN,
            "seed {seed}: I28: only {operations} operations were acknowledged"
        );
    }

    /// How everybody stands, for a failure's message.
    pub(super) fn standing(&self) -> String {
        let one = |member: &super::member::Member| match &member.process {
            None => format!("{}: down, needs {:?}", member.id, member.needs),
            Some(process) => {
                let group = process.stepped.group();
                format!(
                    "{}: {} in {}, leader {}, voters {:?}, applied {} of {}, {:?}",
                    member.id,
                    if group.leads() { "leads" } else { "follows" },
                    group.term(),
                    group.leader(),
                    group.voters(),
                    process.stepped.applied().last.index.get(),
                    self.canon.last(),
                    group.followers()
                )
            }
        };
        self.members.iter().map(one).collect::<Vec<_>>().join("\n")
    }
}
