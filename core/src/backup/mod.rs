//! What a backup of the metadata consists of, and what can be restored from it: images of the state, and the journal that was
//! shipped since.
//!
//! [`names`] says where objects stand below the destination, [`shipment`] and [`manifest`] what they hold, [`chain`] how far an
//! image and the shipments after it reach, [`retention`] what of it may go, [`rebirth`] what is changed in a state that begins a new life. All are pure; `master`
//! moves the bytes.
//!
//! A restore to a moment forks history: the cluster goes on from there with other entries under the same indexes. So every
//! restore begins a new **history**, which is the upper part of the Raft term: its objects never meet those of the one before,
//! and chunk servers, which obey the highest term they have seen, obey it.

pub mod chain;
mod fields;
pub mod manifest;
pub mod names;
pub mod rebirth;
pub mod retention;
pub mod shipment;

use crate::ids::Term;
use std::fmt;
use thiserror::Error;

/// Terms of one history: far more elections than a cluster can hold (one each second for twelve days without a pause), and
/// room for 2^44 restores. A cluster that gets beyond begins a history without a restore, and makes an image for it.
const TERM_BITS: u32 = 20;

/// The life of a cluster between two restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History(pub u64);

impl History {
    /// The history in which this term was led.
    pub const fn of(term: Term) -> Self {
        Self(term.get() >> TERM_BITS)
    }

    /// The term before its first one: of the hard state that a restored master begins with.
    pub const fn begins_in(self) -> Term {
        Term(self.0 << TERM_BITS)
    }

    /// The history of a restore, when all of `known` exist already.
    pub fn after(known: impl IntoIterator<Item = Self>) -> Self {
        Self(known.into_iter().map(|history| history.0 + 1).max().unwrap_or(1))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why bytes are no object of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BackupError {
    /// Cut, or bits have changed.
    #[error("is damaged")]
    Damaged,
    /// Written by a later release.
    #[error("has format {0}, newer than this binary reads: use a newer cairn binary")]
    NewerFormat(u32),
    /// Whole, but of another cluster, history or place.
    #[error("belongs elsewhere: it was copied or renamed")]
    Misplaced,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_history_is_beyond_all_terms_of_those_before() {
        let (old, new) = (History::of(Term(7)), History::after([History(0), History(4), History(2)]));
        assert_eq!((old, new), (History(0), History(5)));
        assert_eq!(History::of(new.begins_in()), new);
        assert_eq!(History::of(Term(new.begins_in().get() + 100_000)), new);
        assert!(new.begins_in() > Term(History(4).begins_in().get() + 1_000_000));
        assert_eq!(History::after([]), History(1));
    }
}
