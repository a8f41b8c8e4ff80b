//! What must hold after every step, one file each, named by the numbers of the reliability programme.

pub(super) mod i01_acknowledged_survives;
pub(super) mod i07_one_leader_one_log;
pub(super) mod i08_lease_and_reads;
pub(super) mod i09_terms_are_obeyed;
pub(super) mod i11_same_state;
pub(super) mod i12_damage_is_found;
pub(super) mod i13_votes_are_kept;
pub(super) mod i15_exactly_once;
pub(super) mod i16_acts;
pub(super) mod i16_sound_names;
pub(super) mod i19_no_number_twice;
pub(super) mod i21_replicas_are_current;
pub(super) mod i22_good_copies_stay;

use super::canon::{Asked, Canon};
use super::chunkserver::{Blocks, Server};
use super::data::Recorded;
use super::member::Member;
use crate::sequencer::stepped::Stepped;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, NodeId, Term};
use cairn_core::journal::entry::Origin;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::{OperationKind, QueryKind};
use raft::eraftpb::Message;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the checks remember.
#[derive(Default)]
pub(super) struct Invariants {
    leaders: i07_one_leader_one_log::Leaders,
    votes: i13_votes_are_kept::Votes,
    numbers: i19_no_number_twice::Numbers,
    heard: i08_lease_and_reads::Heard,
    terms: i09_terms_are_obeyed::Terms,
    damage: i12_damage_is_found::Damage,
    /// Index up to which each running member was looked at.
    seen: BTreeMap<u64, u64>,
    /// Term of each member, and whether it leads, as it was looked at last.
    parts: BTreeMap<u64, Option<(u64, bool)>>,
    pub(super) leases_seen: u64,
}

impl Invariants {
    pub(super) fn seen(&self, id: u64) -> u64 {
        self.seen.get(&id).copied().unwrap_or_default()
    }

    /// A member has applied more.
    pub(super) fn applied(
        &mut self,
        seed: u64,
        id: u64,
        (stepped, sound): (&Stepped, bool),
        canon: &mut Canon,
        asked_for: &BTreeMap<Asked, OperationKind>,
        hosts: &[Server],
    ) {
        let before = canon.last();
        i07_one_leader_one_log::check_log(seed, id, stepped, canon, |data, canon| {
            self.numbers.check(seed, data, canon.last());
            i21_replicas_are_current::check_raised(seed, data, hosts, canon);
            if let Origin::Client { session, slot, sequence } = data.origin
                && let Some(kind) = asked_for.get(&(session, slot, sequence))
            {
                i16_acts::check(seed, kind, canon);
            }
        });
        self.seen.insert(id, stepped.applied().last.index.get());
        let last = canon.last();
        if last / 64 != before / 64 {
            i16_sound_names::check(seed, canon);
        }
        // One that ends may have failed to write what it applied.
        if sound && last == stepped.applied().last.index.get() && last.is_multiple_of(32) {
            i11_same_state::check(seed, id, stepped, canon);
        }
    }

    /// Who leads may have changed, by a turn of master `id`.
    pub(super) fn leads(&mut self, seed: u64, id: u64, members: &[Member]) {
        let leading = |member: &Member| {
            let group = member.process.as_ref()?.stepped.group();
            Some((group.term().get(), group.leads()))
        };
        let now = leading(&members[id as usize - 1]);
        let changed = self.parts.insert(id, now) != Some(now);
        let leaders = self.parts.values().filter(|part| matches!(part, Some((_, true)))).count();
        if changed || leaders > 1 {
            self.leaders.check(seed, members);
            self.leases_seen += i08_lease_and_reads::check_leases(seed, members);
        }
    }

    /// A member says something to another.
    pub(super) fn said(&mut self, seed: u64, member: &mut Member, message: &Message) {
        self.votes.check(seed, member, message);
    }

    /// A client has a good answer.
    pub(super) fn acknowledged(
        &mut self,
        seed: u64,
        of: Asked,
        answer: &Answer,
        now: Duration,
        canon: &Canon,
    ) {
        let index = i15_exactly_once::check(seed, of, answer, canon);
        canon.touched(index).iter().for_each(|key| self.heard.note(key.clone(), index, now));
    }

    /// A client reads what it asked `then`.
    pub(super) fn read(
        &mut self,
        seed: u64,
        read: (&QueryKind, &Result<Answer, FsError>),
        times: (Duration, Duration),
        canon: &Canon,
    ) {
        self.heard.check_read(seed, read, times, canon);
    }

    /// A chunk server obeys a term.
    pub(super) fn obeyed(&mut self, seed: u64, server: u64, term: Term) {
        self.terms.check(seed, server, term);
    }

    /// A chunk server deletes a replica.
    pub(super) fn deleted(&mut self, seed: u64, node: NodeId, chunk: ChunkId, canon: &Canon) {
        i22_good_copies_stay::check(seed, node, chunk, canon);
    }

    /// A client has recorded a file.
    pub(super) fn recorded(&mut self, seed: u64, file: &Recorded, hosts: &[Server], canon: &Canon) {
        i21_replicas_are_current::check_all(seed, std::slice::from_ref(file), hosts, canon);
    }

    /// A client has read a replica.
    pub(super) fn read_back(&mut self, seed: u64, recorded: &Recorded, blocks: &Blocks) {
        i21_replicas_are_current::check_read(seed, recorded, blocks);
    }

    /// A process has ended.
    pub(super) fn down(&mut self, id: u64) {
        self.seen.remove(&id);
        self.parts.remove(&id);
    }

    /// A process has started on what its disk has.
    pub(super) fn up(&mut self, seed: u64, member: &Member, canon: &Canon) {
        let Some(process) = &member.process else { return };
        i13_votes_are_kept::check_start(seed, member, &process.stepped);
        i07_one_leader_one_log::check_start(seed, member.id, &process.stepped, canon);
        self.damage.started(seed, member.id);
    }

    /// A bit of a member's journal has turned.
    pub(super) fn rotten(&mut self, id: u64) {
        self.damage.done(id);
    }

    /// Whether a bit of its journal has turned that it has not found yet.
    pub(super) fn is_rotten(&self, id: u64) -> bool {
        self.damage.is_done(id)
    }

    /// A member's disk is gone, with whatever was wrong with it.
    pub(super) fn disk_lost(&mut self, id: u64) {
        self.damage.gone(id);
    }

    /// A member says that its journal is damaged.
    pub(super) fn found_damaged(&mut self, seed: u64, id: u64) {
        self.damage.found(seed, id);
    }

    /// A member at the end of a run.
    pub(super) fn at_rest(&mut self, seed: u64, id: u64, stepped: &Stepped, canon: &Canon) {
        i11_same_state::check(seed, id, stepped, canon);
        i16_sound_names::check(seed, canon);
    }
}
