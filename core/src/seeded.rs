//! Faults that can be built in on purpose, one at a time, by the environment of a process: they show that the tests catch fish.
//! Without the feature `seeded-bugs`, which only tests ask for, every question here is `false` at compile time.

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
    ForgetVote,
    ReadWithoutLease,
    AnswerRefusalsEarly,
    ForgetSessions,
    ReplaceKeepsVote,
    IgnoreVersion,
    IgnoreTerm,
    SkipVerification,
    RecordBeforeSync,
    ForgetUnacknowledged,
    IgnoreInvalidation,
    AnswerBeforeInvalidation,
    TruncateAtBadChecksum,
    IgnoreVotePromise,
    KeepStaleReplica,
    TrustRestarted,
    SkipComparison,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 36] = [
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
        Self::ForgetVote,
        Self::ReadWithoutLease,
        Self::AnswerRefusalsEarly,
        Self::ForgetSessions,
        Self::ReplaceKeepsVote,
        Self::IgnoreVersion,
        Self::IgnoreTerm,
        Self::SkipVerification,
        Self::RecordBeforeSync,
        Self::ForgetUnacknowledged,
        Self::IgnoreInvalidation,
        Self::AnswerBeforeInvalidation,
        Self::TruncateAtBadChecksum,
        Self::IgnoreVotePromise,
        Self::KeepStaleReplica,
        Self::TrustRestarted,
        Self::SkipComparison,
    ];

    /// Its name, as its variant.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Names the fault that is built into a process.
#[cfg(feature = "seeded-bugs")]
pub const VARIABLE: &str = "CAIRN_SEEDED_BUG";

/// The fault that the environment asks for, for good.
#[cfg(feature = "seeded-bugs")]
#[expect(
    clippy::disallowed_methods,
    reason = "only in builds for tests, which run each fault in a process of its own"
)]
static PLANTED: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
    Some(bug.unwrap_or_else(|| panic!("{VARIABLE}={name}: there is no such fault")))
});

/// Whether this fault is built in.
#[cfg(feature = "seeded-bugs")]
pub fn is_planted(bug: Bug) -> bool {
    *PLANTED == Some(bug)
}

/// Whether this fault is built in: no.
#[cfg(not(feature = "seeded-bugs"))]
pub const fn is_planted(_: Bug) -> bool {
    false
}
