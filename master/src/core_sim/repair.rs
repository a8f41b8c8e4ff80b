//! What operators, leaders and members do about members that cannot go on by themselves: places given away, steps of the group,
//! copies of the state.

use super::member::{DATA_DIR, Need};
use super::world::{Event, World};
use crate::checkpoint;
use crate::filling::serve::may_hand_out;
use crate::sequencer::{GroupRefusal, LostVote, StateStore};
use cairn_core::ids::Term;
use cairn_core::journal::install::Install;
use cairn_core::journal::membership::{MemberChange, Refusal};
use cairn_env::disk::{Disk, OpenMode};
use cairn_env::disk_sim::SimDisk;
use cairn_env::random::Random;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;

/// A step of the group that is under way, and what the member needs when it is done.
pub(super) struct Step {
    pub(super) member: u64,
    then: Need,
    outcome: oneshot::Receiver<Result<(), GroupRefusal>>,
}

impl World {
    /// Starts a master's process, if it can go on with what its disk has.
    pub(super) fn boot(&mut self, id: u64) {
        let (seed, founding) = (self.random.next_u64(), self.founding.clone());
        let member = self.member(id);
        if member.process.is_some() || member.needs.is_some() {
            return;
        }
        match member.boot(seed, &founding) {
            Ok(()) => {
                self.tell(|| format!("master {id} starts"));
                self.invariants.up(self.seed, &self.members[id as usize - 1], &self.canon);
                self.turn(id);
                self.plan_tick(id);
            }
            Err(error) => {
                self.tell(|| format!("master {id} does not start: {error}"));
                match error.filling() {
                    Some(LostVote(true)) => self.lost_journal(id),
                    Some(LostVote(false)) => self.member(id).needs = Some(Need::Fill { lost_vote: false }),
                    // A sync that was to fail: the machine is started again.
                    None => self.queue.push(self.now + Duration::from_secs(1), Event::Boot { member: id }),
                }
            }
        }
    }

    fn lost_journal(&mut self, id: u64) {
        self.hit("journals found damaged");
        self.invariants.found_damaged(self.seed, id);
        let member = self.member(id);
        (member.needs, member.said_term) = (Some(Need::Detach), 0);
    }

    /// One round of repairs.
    pub(super) fn mend(&mut self) {
        let now = self.now;
        let Some(leader) = self.leader() else { return self.fill_without_leader() };
        if self.member(leader).paused_until > now {
            return;
        }
        self.promote(leader);
        self.finish_step();
        if self.step.is_some() {
            return;
        }
        let needs = |member: &super::member::Member| {
            let is_there = member.paused_until <= now && member.id != leader;
            member.needs.filter(|_| is_there).map(|need| (member.id, need))
        };
        let Some((id, need)) = self.members.iter().find_map(needs) else { return };
        let connected = self.arrival(id, leader).is_some() && self.arrival(leader, id).is_some();
        let node = self.member(id).node;
        let (change, then) = match need {
            Need::Replace => (MemberChange::Replace { id, address: None }, Need::Join),
            _ if !connected => return,
            Need::Detach => (MemberChange::Detach { id, node }, Need::Join),
            Need::Join => (MemberChange::Join { id, node }, Need::Fill { lost_vote: true }),
            Need::Fill { lost_vote } => return self.fill(leader, id, lost_vote),
        };
        let process = self.members[leader as usize - 1].process.as_ref();
        let Some(outcome) = process.map(|process| process.stepped.change(change)) else { return };
        self.step = Some(Step { member: id, then, outcome });
        self.turn(leader);
        self.finish_step();
    }

    fn finish_step(&mut self) {
        let Some(mut step) = self.step.take() else { return };
        match step.outcome.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => self.step = Some(step),
            Ok(Ok(()) | Err(GroupRefusal::Rules(Refusal::Done(_)))) => {
                self.member(step.member).needs = Some(step.then);
            }
            Ok(Err(refusal)) => {
                self.tell(|| format!("a step for master {} is refused: {refusal}", step.member));
            }
            Err(oneshot::error::TryRecvError::Closed) => {}
        }
    }

    /// Followers without a vote get one when they have caught up.
    fn promote(&mut self, leader: u64) {
        let Some(process) = &self.members[leader as usize - 1].process else { return };
        let learners: Vec<u64> =
            process.stepped.group().followers().iter().filter(|it| it.learner).map(|it| it.id).collect();
        for &id in &learners {
            // Too early: the next round asks again.
            drop(process.stepped.change(MemberChange::Promote { id }));
        }
        if !learners.is_empty() {
            self.turn(leader);
        }
    }

    /// Nobody leads, perhaps because a majority needs a member that must be filled.
    fn fill_without_leader(&mut self) {
        let now = self.now;
        let is_there = |member: &&super::member::Member| member.paused_until <= now;
        let keeps_vote =
            |member: &&super::member::Member| member.needs == Some(Need::Fill { lost_vote: false });
        let source = self.members.iter().filter(is_there).find(|member| {
            let group = member.process.as_ref().map(|process| process.stepped.group());
            group.is_some_and(|group| may_hand_out(group.leads(), group.leader(), true))
        });
        let to = self.members.iter().filter(is_there).find(keeps_vote);
        let (Some(source), Some(to)) = (source.map(|it| it.id), to.map(|it| it.id)) else { return };
        if self.arrival(to, source).is_some() && self.arrival(source, to).is_some() {
            self.hit_quietly("members filled while nobody led");
            self.fill(source, to, false);
        }
    }

    /// The member gets a copy of another's state, and starts with it.
    fn fill(&mut self, leader: u64, id: u64, lost_vote: bool) {
        let Some(process) = &self.members[leader as usize - 1].process else { return };
        let term = process.stepped.group().term();
        let path = Path::new(DATA_DIR).join("copy");
        if process.env.disk.exists(&path).unwrap() {
            // What an attempt that failed has left.
            process.env.disk.remove_dir_all(&path).unwrap();
        }
        let copied = checkpoint::copy(&process.env, process.stepped.kv(), StateStore::Memory, &path);
        let Ok(applied) = copied else { return };
        let install =
            Install { last: applied.last, lost_vote: lost_vote.then_some((Term(term.get()), leader)) };
        let from = self.members[leader as usize - 1].disk.clone();
        let to = self.members[id as usize - 1].disk.clone();
        let written = hand_over(&from, &to, &path, &install);
        from.remove_dir_all(&path).unwrap();
        if let Err(error) = written {
            return self.tell(|| format!("a copy for master {id} failed: {error}"));
        }
        self.hit(if lost_vote {
            "members filled that had lost their vote"
        } else {
            "members filled that lagged"
        });
        self.tell(|| format!("master {id} gets a copy up to {}", applied.last.index.get()));
        if self.chance(3) {
            self.hit("crashes after a copy");
            self.leave_image(id);
        }
        (self.member(id).needs, self.member(id).sync_fails) = (None, false);
        self.boot(id);
    }
}

/// Writes the copy and the record, as a member that fetches it does.
fn hand_over(from: &SimDisk, to: &SimDisk, path: &Path, install: &Install) -> io::Result<()> {
    let (data_dir, filled) = (Path::new(DATA_DIR), Path::new(DATA_DIR).join("filled"));
    if to.exists(&filled)? {
        to.remove_dir_all(&filled)?;
    }
    let filling = data_dir.join("filling");
    if to.exists(&filling)? {
        to.remove_dir_all(&filling)?;
    }
    to.create_dir_all(&filling.join("state"))?;
    for item in from.list(path)? {
        let source = from.open(&path.join(&item.name), OpenMode::Read)?;
        let mut bytes = vec![0; source.len()? as usize];
        source.read_at(&mut bytes, 0)?;
        let file = to.open(&filling.join("state").join(&item.name), OpenMode::Create)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
    }
    to.sync_dir(&filling.join("state"))?;
    let record = to.open(&filling.join("install"), OpenMode::Create)?;
    record.write_all_at(&install.encode(), 0)?;
    record.sync_all()?;
    to.sync_dir(&filling)?;
    to.rename(&filling, &filled)?;
    to.sync_dir(data_dir)
}
