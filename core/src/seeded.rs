//! Faults that can be built in on purpose, one at a time, chosen at run time: they show that the tests catch fish. Without the
//! feature `seeded-bugs`, which only the package of the tests asks for, every question here is `false` at compile time.

/// A fault. The name says what is done wrong where it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bug {
    SkipJournalSync,
    SkipSegmentNameSync,
    ForgetTruncation,
    ForgetLastBatch,
    AnswerBeforeCommit,
    AnswerWhatWasLost,
    FollowersAnswerBeforeSync,
    CountUnheardEntries,
    KeepOverlay,
    DropARow,
    ForgetSlotAnswers,
    ReuseNumbers,
    ExclusiveCreateOpens,
    RenameKeepsOldName,
    FillForgetsJournal,
    SkipIntentSync,
    SkipReplicaFileSync,
    SkipIntentReplay,
    AnswerBeforeForward,
    IgnoreVotePromise,
    KeepStaleReplica,
    IgnoreChunkVersion,
}

impl Bug {
    /// Those that the simulation of the whole cluster looks for.
    pub const ALL: [Self; 19] = [
        Self::SkipJournalSync,
        Self::SkipSegmentNameSync,
        Self::ForgetTruncation,
        Self::ForgetLastBatch,
        Self::AnswerBeforeCommit,
        Self::AnswerWhatWasLost,
        Self::FollowersAnswerBeforeSync,
        Self::CountUnheardEntries,
        Self::KeepOverlay,
        Self::DropARow,
        Self::ForgetSlotAnswers,
        Self::ReuseNumbers,
        Self::ExclusiveCreateOpens,
        Self::RenameKeepsOldName,
        Self::FillForgetsJournal,
        Self::SkipIntentSync,
        Self::SkipReplicaFileSync,
        Self::SkipIntentReplay,
        Self::AnswerBeforeForward,
    ];

    /// Those that only the simulation of the cores looks for.
    pub const OF_CORES: [Self; 3] =
        [Self::IgnoreVotePromise, Self::KeepStaleReplica, Self::IgnoreChunkVersion];

    /// Its name, as its variant.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

#[cfg(feature = "seeded-bugs")]
static PLANTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Builds a fault into this process, for good.
#[cfg(feature = "seeded-bugs")]
pub fn plant(bug: Bug) {
    PLANTED.store(bug as usize, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this fault is built in.
#[cfg(feature = "seeded-bugs")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as usize
}

/// Whether this fault is built in: no.
#[cfg(not(feature = "seeded-bugs"))]
pub const fn is_planted(_: Bug) -> bool {
    false
}
