//! Storage policies in the model: whoever is given one has it, what is made below inherits it, chunks follow with the walk.

use super::steps::PolicyAct;
use super::world::World;
use crate::cluster::{Labels, Policy};
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId, PolicyId};
use crate::namespace::alignment::{Walked, page, walk};
use crate::namespace::attr::NodeKind;
use crate::namespace::chunk_set::minimum_of;
use crate::namespace::internal::{Internal, PolicyChanges, PolicyStep};
use crate::namespace::policies::{PolicyRecord, records};
use crate::namespace::work;

const DEFAULT_REPLICAS: u8 = 3;

impl World {
    fn policies(&self) -> Vec<PolicyRecord> {
        records(&self.rows, DEFAULT_REPLICAS).unwrap()
    }

    fn nth_policy(&self, nth: usize) -> PolicyRecord {
        let all = self.policies();
        all[nth % all.len()].clone()
    }

    pub(super) fn see_to_policies(&mut self, act: &PolicyAct) {
        match *act {
            PolicyAct::Create { name, replicas } => {
                let required = Labels::parse(["media=ssd"].iter().take(usize::from(name) % 2)).unwrap();
                let (name, minimum) = (format!("p{name}"), minimum_of(replicas));
                let known = self.policies().iter().any(|record| record.says.name == name);
                let step = PolicyStep::Create(Policy { name, replicas, minimum, required });
                self.step_or(step, known.then_some(FsError::Exists));
            }
            PolicyAct::Change { policy, replicas, minimum } => {
                let before = self.nth_policy(policy);
                let changes = PolicyChanges { replicas: Some(replicas), minimum, required: None };
                let otherwise = minimum.filter(|&m| m > replicas).map(|_| FsError::InvalidArgument);
                self.step_or(PolicyStep::Change { policy: before.policy, changes }, otherwise);
            }
            PolicyAct::Remove(nth) => {
                let record = self.nth_policy(nth);
                let otherwise = match (record.policy, record.inodes + record.chunks) {
                    (PolicyId::DEFAULT, _) => Some(FsError::InvalidArgument),
                    (_, 0) => None,
                    _ => Some(FsError::Busy),
                };
                self.step_or(PolicyStep::Remove { policy: record.policy }, otherwise);
            }
            PolicyAct::Give { inode, policy } => {
                self.give(self.resolve(inode), self.nth_policy(policy).policy)
            }
            PolicyAct::Walk(most) => self.walk_a_page(most),
        }
    }

    fn step_or(&mut self, step: PolicyStep, otherwise: Option<FsError>) {
        let command = Internal::Policy(step);
        match otherwise {
            Some(error) => assert_eq!(self.refused(&command), error),
            None => drop(self.command(&command)),
        }
    }

    fn give(&mut self, inode: InodeId, policy: PolicyId) {
        self.command(&Internal::SetPolicy { inodes: vec![inode], policy });
        if let Some(node) = self.toy.nodes.get_mut(&inode.get())
            && matches!(node.kind, NodeKind::Regular | NodeKind::Directory)
        {
            node.policy = policy;
        }
    }

    fn walk_a_page(&mut self, most: usize) {
        let Some(row) = walk(&self.rows).unwrap() else { return self.everything_is_in_line() };
        let found = page(&self.rows, row.next, most, true).unwrap();
        let last = found.chunks.last().filter(|_| found.chunks.len() == most);
        let walked = last.map_or(Walked::Through, |record| Walked::To(ChunkId(record.chunk.get() + 1)));
        self.command(&Internal::AlignChunks { chunks: found.out_of_line, walked: Some(walked) });
    }

    pub(super) fn walk_through(&mut self) {
        while walk(&self.rows).unwrap().is_some() {
            self.walk_a_page(3);
            self.verify_state();
        }
        self.everything_is_in_line();
    }

    /// Nothing has changed since the walk: each chunk wants what the policy of its file says.
    fn everything_is_in_line(&self) {
        let policies = self.policies();
        for chunk in work::chunks(&self.rows, None, 1000).unwrap() {
            let record = policies.iter().find(|record| record.policy == chunk.policy).unwrap();
            assert_eq!(chunk.wanted, record.says.replicas, "{chunk:?} {record:?}");
            assert!(chunk.minimum <= record.says.minimum, "{chunk:?} {record:?}");
            let file = self.toy.nodes.get(&chunk.inode.get()).filter(|_| chunk.owner.is_none());
            assert!(file.is_none_or(|file| file.policy == chunk.policy), "{chunk:?}");
        }
    }

    /// With nothing that has them, all can be removed but the default one.
    pub(super) fn give_back_and_remove_policies(&mut self) {
        self.give(InodeId::ROOT, PolicyId::DEFAULT);
        for record in self.policies().split_off(1) {
            assert_eq!((record.inodes, record.chunks), (0, 0), "{record:?}");
            self.command(&Internal::Policy(PolicyStep::Remove { policy: record.policy }));
        }
        self.verify_state();
    }
}
