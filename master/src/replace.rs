//! Raising the version of a chunk on the servers that still answer: the fence between what a writer sent under the old
//! replica set and what it sends under the new one.

use crate::link::CommandError;
use crate::parts::Parts;
use crate::sequencer::RaiseOrder;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, InodeId, ServerId, Term};
use cairn_core::limits::RAISE_PATIENCE;
use cairn_core::namespace::work::lease_of;
use cairn_core::session::Raised;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use tracing::{info, warn};

/// Commands the raise on every survivor at once and reports who has it on stable storage. Who is not connected, fails or
/// is later than [`RAISE_PATIENCE`] is left out: the version that it missed fences it. A writer waits for this.
pub(crate) async fn raise_survivors(parts: &Parts, term: Term, order: &RaiseOrder) -> Raised {
    // Whoever lost writes fails the writer's next sync: nothing is made equal to it here.
    let raise_all = (&order.survivors[..], Patience::of(RAISE_PATIENCE));
    let raises = raise(parts, term, order.chunk, (order.from, order.to), raise_all, false).await;
    let servers = raised(&raises);
    info!(chunk = %order.chunk, from = %order.from, to = %order.to, survivors = ?servers, "replica set is replaced");
    Raised { to: order.to, servers }
}

/// What became of a raise on each server.
pub(crate) type Raises = Vec<(ServerId, Result<(), CommandError>)>;

/// What has come of it so far.
pub(crate) type Answers = BTreeMap<ServerId, Result<(), CommandError>>;

/// Those that have raised it.
pub(crate) fn raised(raises: &Raises) -> Vec<ServerId> {
    raises.iter().filter(|(_, outcome)| outcome.is_ok()).map(|&(server, _)| server).collect()
}

/// How long servers have to raise a version.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    /// Each of them.
    pub(crate) each: Duration,
    /// Those that are then missing, while the others do not suffice. Not less than `each`.
    pub(crate) longest: Duration,
    /// Whether what has come is enough to go on with.
    pub(crate) suffices: &'a (dyn Fn(&Answers) -> bool + Sync),
}

impl Patience<'_> {
    /// The same time for all, whatever the others say.
    pub(crate) const fn of(each: Duration) -> Self {
        Self { each, longest: each, suffices: &|_| true }
    }
}

/// Raises `chunk` on those of the servers that answer in time, and if `whole` have lost no acknowledged writes; their order
/// is kept.
pub(crate) async fn raise(
    parts: &Parts,
    term: Term,
    chunk: ChunkId,
    versions: (ChunkVersion, ChunkVersion),
    (servers, patience): (&[ServerId], Patience<'_>),
    whole: bool,
) -> Raises {
    let attempts = servers.iter().map(|&server| async move {
        let outcome = match parts.servers.link(server) {
            Some(link) => link.raise(term, chunk, versions, whole, patience.longest).await,
            None => Err(CommandError::Gone),
        };
        (server, outcome)
    });
    let mut answers = gather(attempts.collect(), patience).await;
    let raise = |&server: &ServerId| {
        let outcome = answers.remove(&server).unwrap_or(Err(CommandError::Silent(patience.each)));
        if let Err(error) = &outcome {
            warn!(%chunk, %server, %error, "replica is left behind: its version could not be raised");
        }
        (server, outcome)
    };
    servers.iter().map(raise).collect()
}

/// The outcomes that come in time.
async fn gather(
    mut attempts: FuturesUnordered<impl Future<Output = (ServerId, Result<(), CommandError>)>>,
    patience: Patience<'_>,
) -> Answers {
    let mut answers = Answers::new();
    let mut each = pin!(tokio::time::sleep(patience.each));
    let mut is_late = false;
    while !(is_late && (patience.suffices)(&answers)) {
        tokio::select! {
            biased;
            answer = attempts.next() => match answer {
                Some((server, outcome)) => drop(answers.insert(server, outcome)),
                None => break,
            },
            () = &mut each, if !is_late => is_late = true,
        }
    }
    answers
}
/// Whether somebody may write the chunks of `inode`, and counts on what its replicas have acknowledged and not synced. A replica that
/// lost such writes must not be what the others are made equal to. Asked after the raise was journaled.
pub(crate) async fn is_written(parts: &Parts, inode: InodeId) -> Result<bool, FsError> {
    let lease = parts.reader.read(move |rows| lease_of(rows, inode)).await?;
    Ok(lease.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// Who is waited for, when servers answer after so many milliseconds and so many answers suffice.
    async fn gathered(after_ms: &[u32], suffices: usize) -> Vec<u32> {
        let attempts = after_ms.iter().map(|&after_ms| {
            let answer = async move { (ServerId(after_ms), Ok(())) };
            tokio::time::sleep(Duration::from_millis(after_ms.into())).then(|()| answer)
        });
        let suffices = move |answers: &Answers| answers.len() >= suffices;
        let (each, longest) = (Duration::from_millis(50), Duration::MAX);
        let answers = gather(attempts.collect(), Patience { each, longest, suffices: &suffices }).await;
        answers.keys().map(|server| server.0).collect()
    }

    #[tokio::test]
    async fn a_late_server_is_waited_for_only_while_the_others_do_not_suffice() {
        const NEVER: u32 = u32::MAX;
        assert_eq!(gathered(&[0, 1, 2], 2).await, [0, 1, 2], "all that are in time");
        assert_eq!(gathered(&[0, 1, NEVER], 2).await, [0, 1]);
        assert_eq!(gathered(&[0, 200, NEVER], 2).await, [0, 200]);
        assert_eq!(gathered(&[0, 1], 3).await, [0, 1], "there is nobody else");
    }
}
