//! The last step: a complete copy takes the place of journal and state, before anything else in the directory is opened.
//!
//! ```text
//! <data_dir>/filling/           a copy on its way; void after a restart
//! <data_dir>/filled/install     the record: everything in filled/ is complete and durable
//! <data_dir>/filled/state/      the copy
//! ```
//! Order: the journal goes on behind the copy; the copy becomes `state`; `filled` goes. Each step is durable before the next
//! and may be repeated, and nothing runs in between.

use crate::journal::{Journal, JournalConfig, JournalError};
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::frame::HardState;
use cairn_core::journal::install::{INSTALL_BYTES, Install};
use cairn_core::seeded::{Bug, is_planted};
use cairn_env::Env;
use cairn_env::disk::{Disk, read_small};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// A copy on its way.
pub(super) const FILLING: &str = "filling";
/// A complete one.
pub(super) const FILLED: &str = "filled";
/// Its record.
pub(super) const RECORD: &str = "install";
/// The copy itself, and what it becomes.
pub(super) const STATE: &str = "state";
/// What is left of a journal that could not be used, for whoever wants to look.
const DAMAGED: &str = "journal.damaged";

/// Why a copy could not be installed; shown to the user as it is.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The system refused.
    #[error("installing a copy of the state: {0}: check the disk, then start again")]
    Io(#[from] io::Error),
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The record is damaged.
    #[error("{0} is damaged: remove its directory, and the copy is fetched again")]
    Record(PathBuf),
    /// There is no journal, though this member is said to have voted.
    #[error("the journal in {0} is gone, and with it what this master has voted")]
    NoJournal(PathBuf),
    /// The journal of this member has gone beyond the copy and no longer holds what follows it.
    #[error(
        "the copy reaches entry {copy}, the journal of this master begins after {begins}: another copy is needed"
    )]
    TooOld {
        /// Last entry of the copy.
        copy: u64,
        /// The entry before the journal's first.
        begins: u64,
    },
}

/// Installs a complete copy, if there is one. Blocks on the disk.
pub(crate) fn finish(env: &Env, data_dir: &Path, journal: &JournalConfig) -> Result<(), InstallError> {
    let disk = &*env.disk;
    remove_dir(disk, &data_dir.join(FILLING))?;
    let filled = data_dir.join(FILLED);
    let record = filled.join(RECORD);
    if !disk.exists(&record)? {
        // What an earlier start has not removed.
        return Ok(remove_dir(disk, &filled)?);
    }
    let install = Install::decode(&read_small(disk, &record, INSTALL_BYTES as u64)?)
        .ok_or_else(|| InstallError::Record(record.clone()))?;
    let (copy, state) = (filled.join(STATE), data_dir.join(STATE));
    if disk.exists(&copy)? {
        go_on_behind(env, journal, &install)?;
        remove_dir(disk, &state)?;
        disk.rename(&copy, &state)?;
        disk.sync_dir(data_dir)?;
    }
    // Copies of another history, or older than the journal.
    remove_dir(disk, &data_dir.join("checkpoints"))?;
    // The record goes first: without it the rest means nothing.
    disk.remove_file(&record)?;
    disk.sync_dir(&filled)?;
    remove_dir(disk, &filled)?;
    tracing::info!(applied = install.last.index.get(), "a copy of the state is installed");
    Ok(())
}

/// A journal that holds the copy's last entry is right as it is. Otherwise (Raft, section 7) all of it is void: it is older than
/// the copy, or differs from what was committed.
fn go_on_behind(env: &Env, config: &JournalConfig, install: &Install) -> Result<(), InstallError> {
    let disk = &*env.disk;
    if install.lost_vote.is_some() {
        set_aside(disk, &config.directory)?;
    }
    let mut journal = Journal::open(Arc::clone(&env.disk), Arc::clone(&env.random), config.clone())?;
    let (last, before) = (install.last, journal.before());
    if is_planted(Bug::FillForgetsJournal) {
        return Ok(());
    }
    if journal.term(last.index) == Some(last.term) && before.index <= last.index && last.index > LogIndex(0) {
        return Ok(());
    }
    if before.index > last.index {
        return Err(InstallError::TooOld { copy: last.index.get(), begins: before.index.get() });
    }
    let own = journal.hard();
    if install.lost_vote.is_none() && own.term == Term(0) {
        return Err(InstallError::NoJournal(config.directory.clone()));
    }
    let (term, vote) = install.lost_vote.unwrap_or((own.term, own.vote));
    journal.reset(HardState { term, vote, commit: last.index }, last)?;
    journal.close_mark()?;
    Ok(())
}

/// Moves the journal away. One of a start that was cut short here is worth nothing.
fn set_aside(disk: &dyn Disk, journal: &Path) -> io::Result<()> {
    let Some(parent) = journal.parent() else { return Ok(()) };
    if !disk.exists(journal)? {
        return Ok(());
    }
    let damaged = parent.join(DAMAGED);
    remove_dir(disk, &damaged)?;
    disk.rename(journal, &damaged)?;
    disk.sync_dir(parent)
}

pub(super) fn remove_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.exists(path)? {
        disk.remove_dir_all(path)?;
        if let Some(parent) = path.parent() {
            disk.sync_dir(parent)?;
        }
    }
    Ok(())
}
