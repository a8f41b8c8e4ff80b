//! One chunk server's connection, seen from above: commands go down with an id, and their outcomes come back.
//!
//! A command that gets no answer is forgotten after its deadline: whoever sent it keeps the work in a row and sends it
//! again, which every command permits.

use cairn_core::cluster::pace::Haste;
use cairn_core::ids::{ChunkId, ChunkVersion, DiskId, ServerId, Term};
use cairn_core::limits::{COMMANDS_IN_FLIGHT_MAX, REPLICA_LIST_MAX};
use cairn_proto::v1::master_command::Message;
use cairn_proto::v1::{
    CheckReplica, CommandDone, CommandOutcome, CopyHaste, DeleteReplica, FenceTerm, HeldReplica,
    ListReplicas, MasterCommand, MendReplica, RaiseVersion, Reconcile, ReplicaList, Scrub, ScrubAction,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Why a command was not done, as far as anybody knows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum CommandError {
    /// The connection ended first.
    #[error("the chunk server is not connected")]
    Gone,
    /// No outcome in time.
    #[error("the chunk server did not answer within {0:?}")]
    Silent(Duration),
    /// Too many commands wait for it already.
    #[error("the chunk server has too many commands outstanding")]
    Busy,
    /// It obeys a later leader.
    #[error("the chunk server has seen a later leader")]
    StaleTerm,
    /// It has no such replica.
    #[error("the chunk server has no such replica")]
    NoSuchReplica,
    /// Its replica has lost acknowledged writes.
    #[error("its replica has lost acknowledged writes")]
    WritesLost,
    /// It tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// How replicas are made equal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Care {
    /// Ahead of a raise, nearly so: a writer may go on meanwhile.
    pub(crate) ahead: bool,
    /// Only if every block of the source verifies: a peer is about to lose what it has.
    pub(crate) verify: bool,
    /// With `ahead`: how far it gives way to programs.
    pub(crate) haste: Option<Haste>,
}

const fn haste(haste: Option<Haste>) -> CopyHaste {
    match haste {
        None => CopyHaste::HasteFull,
        Some(Haste::Last) => CopyHaste::HasteLast,
        Some(Haste::Short) => CopyHaste::HasteShort,
        Some(Haste::Move) => CopyHaste::HasteMove,
    }
}

/// What the connection's stream carries down.
pub(crate) type Outgoing = Result<MasterCommand, tonic::Status>;

/// A message on its way down.
pub(crate) fn down(message: Message) -> Outgoing {
    Ok(MasterCommand { message: Some(message) })
}

/// A connected chunk server.
pub(crate) struct Link {
    /// Whose connection this is.
    pub(crate) server: ServerId,
    commands: mpsc::Sender<Outgoing>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    closed: bool,
    newest: u64,
    waiting: BTreeMap<u64, Waiting>,
}

enum Waiting {
    Outcome(oneshot::Sender<Result<(), CommandError>>),
    List { so_far: Vec<HeldReplica>, done: oneshot::Sender<Result<Vec<HeldReplica>, CommandError>> },
}

impl Link {
    /// A link whose commands leave through `commands`.
    pub(crate) fn new(server: ServerId, commands: mpsc::Sender<Outgoing>) -> Self {
        Self { server, commands, pending: Mutex::default() }
    }

    /// Deletes a replica of at most `version`. A replica that is not there is deleted already.
    pub(crate) async fn delete(
        &self,
        term: Term,
        chunk: ChunkId,
        version: ChunkVersion,
        patience: Duration,
    ) -> Result<(), CommandError> {
        let outcome = self
            .command(patience, |command| {
                Message::Delete(DeleteReplica {
                    command,
                    term: term.get(),
                    chunk: chunk.get(),
                    version: version.get(),
                    part: 0,
                })
            })
            .await;
        if outcome == Err(CommandError::NoSuchReplica) { Ok(()) } else { outcome }
    }

    /// Fences commands of leaders of terms before `term`.
    pub(crate) async fn fence(&self, term: Term, patience: Duration) -> Result<(), CommandError> {
        self.command(patience, |command| Message::Fence(FenceTerm { command, term: term.get() })).await
    }

    /// Has every block of a replica read, which verifies it.
    pub(crate) async fn check(
        &self,
        term: Term,
        chunk: ChunkId,
        patience: Duration,
    ) -> Result<(), CommandError> {
        let check = |command| CheckReplica { command, term: term.get(), chunk: chunk.get() };
        self.command(patience, |command| Message::Check(check(command))).await
    }

    /// Fences frames below version `to`; `whole`: unless the replica has lost acknowledged writes.
    pub(crate) async fn raise(
        &self,
        term: Term,
        chunk: ChunkId,
        (from, to): (ChunkVersion, ChunkVersion),
        whole: bool,
        patience: Duration,
    ) -> Result<(), CommandError> {
        self.command(patience, |command| {
            Message::Raise(RaiseVersion {
                command,
                term: term.get(),
                chunk: chunk.get(),
                from: from.get(),
                to: to.get(),
                part: 0,
                whole,
            })
        })
        .await
    }

    /// Makes the replicas at `peers` equal to the server's own.
    pub(crate) async fn reconcile(
        &self,
        term: Term,
        (chunk, version): (ChunkId, ChunkVersion),
        (peers, care): (Vec<String>, Care),
        patience: Duration,
    ) -> Result<(), CommandError> {
        self.command(patience, |command| {
            Message::Reconcile(Reconcile {
                command,
                term: term.get(),
                chunk: chunk.get(),
                version: version.get(),
                peers,
                ahead: care.ahead,
                verify: care.verify,
                haste: haste(care.haste).into(),
            })
        })
        .await
    }

    /// Mends the damaged replica of the server with blocks of those at `peers`.
    pub(crate) async fn mend(
        &self,
        term: Term,
        (chunk, version): (ChunkId, ChunkVersion),
        peers: Vec<String>,
        patience: Duration,
    ) -> Result<(), CommandError> {
        let (term, chunk, version) = (term.get(), chunk.get(), version.get());
        let message = |command| MendReplica { command, term, chunk, version, peers };
        self.command(patience, |command| Message::Mend(message(command))).await
    }

    /// Tells the scrubbers of the server's disks what to do; `limit` as in the message.
    pub(crate) async fn scrub(
        &self,
        term: Term,
        (action, limit): (ScrubAction, Option<u64>),
        patience: Duration,
    ) -> Result<(), CommandError> {
        let message = |command| Scrub { command, term: term.get(), action: action.into(), limit };
        self.command(patience, |command| Message::Scrub(message(command))).await
    }

    /// Replicas held in a range of chunk ids.
    pub(crate) async fn list(
        &self,
        term: Term,
        (first, last): (ChunkId, ChunkId),
        patience: Duration,
    ) -> Result<Vec<HeldReplica>, CommandError> {
        let (first, last) = (first.get(), last.get());
        self.ask_list(ListReplicas { term: term.get(), first, last, ..ListReplicas::default() }, patience)
            .await
    }

    /// About `limit` replicas on one disk at the most; `nowhere`: only those that no other disk there has room for.
    pub(crate) async fn list_on_disk(
        &self,
        term: Term,
        (disk, nowhere): (DiskId, bool),
        limit: u64,
        patience: Duration,
    ) -> Result<Vec<HeldReplica>, CommandError> {
        let disk = disk.0.as_bytes().to_vec().into();
        let (term, last) = (term.get(), u64::MAX);
        self.ask_list(ListReplicas { command: 0, term, first: 0, last, disk, nowhere, limit }, patience).await
    }

    async fn ask_list(
        &self,
        list: ListReplicas,
        patience: Duration,
    ) -> Result<Vec<HeldReplica>, CommandError> {
        let (done, answer) = oneshot::channel();
        let command = self.enlist(Waiting::List { so_far: Vec::new(), done })?;
        self.send(command, Message::List(ListReplicas { command, ..list }))?;
        self.wait(command, answer, patience).await
    }

    /// Takes the outcome of a command; one that nobody waits for any more is ignored.
    pub(crate) fn settle(&self, done: CommandDone) {
        let outcome = match done.outcome() {
            CommandOutcome::OutcomeDone => Ok(()),
            CommandOutcome::OutcomeStaleTerm => Err(CommandError::StaleTerm),
            CommandOutcome::OutcomeNoSuchReplica => Err(CommandError::NoSuchReplica),
            CommandOutcome::OutcomeWritesLost => Err(CommandError::WritesLost),
            CommandOutcome::OutcomeFailed | CommandOutcome::OutcomeUnspecified => {
                Err(CommandError::Failed(crate::hello::printable(&done.detail)))
            }
        };
        match self.locked().waiting.remove(&done.command) {
            Some(Waiting::Outcome(waiter)) => drop(waiter.send(outcome)),
            Some(Waiting::List { done, .. }) => {
                let error =
                    outcome.err().unwrap_or_else(|| CommandError::Failed("no list was sent".to_owned()));
                drop(done.send(Err(error)));
            }
            None => {}
        }
    }

    /// Takes one page of a list.
    pub(crate) fn settle_list(&self, page: ReplicaList) {
        let mut pending = self.locked();
        let Some(Waiting::List { so_far, .. }) = pending.waiting.get_mut(&page.command) else { return };
        so_far.extend(page.replicas);
        let too_long = so_far.len() > REPLICA_LIST_MAX;
        if !page.last_page && !too_long {
            return;
        }
        let Some(Waiting::List { so_far, done }) = pending.waiting.remove(&page.command) else { return };
        drop(pending);
        let answer = if too_long {
            Err(CommandError::Failed(format!("a list of more than {REPLICA_LIST_MAX} replicas")))
        } else {
            Ok(so_far)
        };
        drop(done.send(answer));
    }

    /// The connection has ended: everybody who waits is told.
    pub(crate) fn close(&self) {
        let mut pending = self.locked();
        pending.closed = true;
        pending.waiting.clear();
    }

    async fn command(
        &self,
        patience: Duration,
        message: impl FnOnce(u64) -> Message,
    ) -> Result<(), CommandError> {
        let (done, outcome) = oneshot::channel();
        let command = self.enlist(Waiting::Outcome(done))?;
        self.send(command, message(command))?;
        self.wait(command, outcome, patience).await
    }

    fn enlist(&self, waiting: Waiting) -> Result<u64, CommandError> {
        let mut pending = self.locked();
        if pending.closed {
            return Err(CommandError::Gone);
        }
        if pending.waiting.len() >= COMMANDS_IN_FLIGHT_MAX {
            return Err(CommandError::Busy);
        }
        pending.newest += 1;
        let command = pending.newest;
        pending.waiting.insert(command, waiting);
        Ok(command)
    }

    fn send(&self, command: u64, message: Message) -> Result<(), CommandError> {
        self.commands.try_send(down(message)).map_err(|error| {
            self.locked().waiting.remove(&command);
            match error {
                mpsc::error::TrySendError::Full(_) => CommandError::Busy,
                mpsc::error::TrySendError::Closed(_) => CommandError::Gone,
            }
        })
    }

    async fn wait<T>(
        &self,
        command: u64,
        answer: oneshot::Receiver<Result<T, CommandError>>,
        patience: Duration,
    ) -> Result<T, CommandError> {
        let _listed = Listed { link: self, command };
        let outcome = tokio::time::timeout(patience, answer).await;
        outcome.map_err(|_| CommandError::Silent(patience))?.unwrap_or(Err(CommandError::Gone))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command whose outcome is waited for: whoever stops waiting leaves nothing behind.
struct Listed<'a> {
    link: &'a Link,
    command: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.link.locked().waiting.remove(&self.command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn link() -> (std::sync::Arc<Link>, mpsc::Receiver<Outgoing>) {
        let (sender, receiver) = mpsc::channel(8);
        (std::sync::Arc::new(Link::new(ServerId(1), sender)), receiver)
    }

    #[tokio::test]
    async fn an_outcome_finds_its_command() {
        let (link, mut sent) = link();
        let other = link.clone();
        let raise = tokio::spawn(async move {
            other.raise(Term(1), ChunkId(1), (ChunkVersion(1), ChunkVersion(2)), false, PATIENCE).await
        });
        let Some(Message::Raise(raise_sent)) = sent.recv().await.unwrap().unwrap().message else {
            panic!("a raise")
        };
        link.settle(CommandDone { command: 999, outcome: 1, detail: String::new() });
        link.settle(CommandDone { command: raise_sent.command, outcome: 1, detail: String::new() });
        assert_eq!(raise.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn deleting_what_is_not_there_is_done() {
        let (link, mut sent) = link();
        let other = link.clone();
        let delete =
            tokio::spawn(async move { other.delete(Term(1), ChunkId(1), ChunkVersion(1), PATIENCE).await });
        let Some(Message::Delete(command)) = sent.recv().await.unwrap().unwrap().message else {
            panic!("a delete")
        };
        let outcome = CommandOutcome::OutcomeNoSuchReplica.into();
        link.settle(CommandDone { command: command.command, outcome, detail: String::new() });
        assert_eq!(delete.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_closed_link_fails_what_waits_and_what_comes() {
        let (link, mut sent) = link();
        let other = link.clone();
        let list = tokio::spawn(async move { other.list(Term(1), (ChunkId(0), ChunkId(9)), PATIENCE).await });
        sent.recv().await.unwrap().unwrap();
        link.close();
        assert_eq!(list.await.unwrap(), Err(CommandError::Gone));
        let after = link.delete(Term(1), ChunkId(1), ChunkVersion(1), PATIENCE).await;
        assert_eq!(after, Err(CommandError::Gone));
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline_and_leaves_nothing_behind() {
        let (link, _sent) = link();
        let brief = Duration::from_millis(20);
        let outcome = link.raise(Term(1), ChunkId(1), (ChunkVersion(1), ChunkVersion(2)), false, brief).await;
        assert_eq!(outcome, Err(CommandError::Silent(brief)));
        assert!(link.locked().waiting.is_empty());
    }
}
