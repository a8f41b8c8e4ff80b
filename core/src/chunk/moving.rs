//! A replica that moves from one disk of a server to another: what of it counts after a crash.
//!
//! The new one *arrives*, provisionally, while the old one is locked; then the old one is deleted, which is the move; then the new
//! one *settles*, and only then is it written to. So where both are there, both hold the same, unless the old one was used alone
//! since, while the disk of the new one was away: hence the old one counts. And where only the new one is there, the old one
//! is gone for certain only if its disk can be looked at.

use crate::ids::{ChunkVersion, DiskId};

/// A replica on a disk, one of those of the same chunk part on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its version.
    pub version: ChunkVersion,
    /// It has not settled, and came from this disk.
    pub provisional: Option<DiskId>,
}

/// What becomes of a replica at the start of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is the one that counts.
    Counts,
    /// It counts, and has settled.
    Settles,
    /// It is kept and not used.
    Aside,
    /// It is deleted: a move was cut short before it was one.
    Deleted,
}

/// Judges the replicas of one chunk part on the disks of a server, of which those in `open` could be recovered.
pub fn judge(candidates: &[Candidate], open: &[DiskId]) -> Vec<Fate> {
    let settled = |candidate: &(usize, &Candidate)| candidate.1.provisional.is_none();
    let newest = candidates.iter().enumerate().filter(settled).max_by_key(|(at, candidate)| {
        // Of equals the first.
        (candidate.version, std::cmp::Reverse(*at))
    });
    if let Some((newest, _)) = newest {
        let fate = |(at, candidate): (usize, &Candidate)| match candidate.provisional {
            _ if at == newest => Fate::Counts,
            Some(_) => Fate::Deleted,
            None => Fate::Aside,
        };
        return candidates.iter().enumerate().map(fate).collect();
    }
    let fate = match candidates {
        [Candidate { provisional: Some(source), .. }] if open.contains(source) => Fate::Settles,
        _ => Fate::Aside,
    };
    vec![fate; candidates.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn disk(number: u128) -> DiskId {
        DiskId(Uuid::from_u128(number))
    }

    fn settled(version: u64) -> Candidate {
        Candidate { version: ChunkVersion(version), provisional: None }
    }

    fn from(source: u128, version: u64) -> Candidate {
        Candidate { version: ChunkVersion(version), provisional: Some(disk(source)) }
    }

    use Fate::{Aside, Counts, Deleted, Settles};

    #[test]
    fn the_old_one_counts_for_as_long_as_it_is_there() {
        assert_eq!(judge(&[settled(3), from(1, 3)], &[disk(1), disk(2)]), [Counts, Deleted]);
        assert_eq!(judge(&[from(1, 3), settled(3)], &[disk(1), disk(2)]), [Deleted, Counts]);
        assert_eq!(
            judge(&[from(1, 9), settled(3)], &[disk(1), disk(2)]),
            [Deleted, Counts],
            "it was not used"
        );
    }

    #[test]
    fn the_new_one_counts_when_the_old_one_is_gone_for_certain() {
        assert_eq!(judge(&[from(1, 3)], &[disk(2), disk(1)]), [Settles]);
        assert_eq!(judge(&[from(1, 3)], &[disk(2)]), [Aside], "the disk that it came from is away");
        assert_eq!(judge(&[from(1, 3), from(1, 3)], &[disk(1), disk(2)]), [Aside, Aside]);
    }

    #[test]
    fn of_settled_ones_the_newest_counts() {
        assert_eq!(judge(&[settled(3)], &[]), [Counts]);
        assert_eq!(judge(&[settled(3), settled(4), settled(4)], &[]), [Aside, Counts, Aside]);
        assert_eq!(judge(&[], &[]), []);
    }
}
