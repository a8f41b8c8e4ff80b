//! Opening a data directory: the state as last flushed, and the journal that says what came after.
//!
//! The two must fit: the state's last entry stands in the journal (or just before it), in the same term.

use super::pins::JournalPins;
use crate::caching::Caching;
use crate::filling::install::{self, InstallError};
use crate::journal::{Journal, JournalConfig, JournalError};
use crate::kv::RocksKv;
use crate::peers::Peers;
use crate::raft::RaftFailure;
use bytes::Bytes;
use cairn_core::ids::{LogIndex, NodeId};
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::members::{MEMBERS_KEY, Member, Members};
use cairn_core::limits::{
    CHECKPOINT_JOURNAL_BYTES, JOURNAL_CACHE_BYTES, JOURNAL_KEEP_ALONE_BYTES, JOURNAL_SEGMENT_BYTES,
};
use cairn_env::Env;
use cairn_env::kv::{Batch, Kv, KvError, Wait};
use cairn_env::kv_memory::MemoryKv;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Which rows this binary reads and writes.
const FEATURE_LEVEL: u32 = 1;

/// What a master's sequencer is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory, locked and of this node.
    pub data_dir: PathBuf,
    /// Raft id of this member, from 1.
    pub node_id: u64,
    /// Uuid of this member, as in its superblock.
    pub node: NodeId,
    /// Replicas of a new chunk.
    pub default_replicas: u8,
    /// Memory for blocks of the state.
    pub cache_bytes: u64,
    /// What keeps the state.
    pub store: StateStore,
    /// Journal and checkpoints.
    pub tuning: Tuning,
    /// Hears of what is applied, for those who cache it.
    pub caching: Arc<Caching>,
    /// The way to the other members.
    pub peers: Arc<Peers>,
    /// Journal that members being filled will need.
    pub pins: Arc<JournalPins>,
}

impl Settings {
    /// The ordinary settings of a member: RocksDB, three replicas, 128 MiB of cache.
    pub fn new(data_dir: PathBuf, node_id: u64, node: NodeId) -> Self {
        Self {
            data_dir,
            node_id,
            node,
            default_replicas: 3,
            cache_bytes: 128 << 20,
            store: StateStore::default(),
            tuning: Tuning::default(),
            caching: Arc::default(),
            peers: Arc::default(),
            pins: Arc::default(),
        }
    }
}

/// Sizes that tests make small.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Bytes of a journal segment.
    pub segment_bytes: u64,
    /// Journal kept beyond what the state needs.
    pub keep_bytes: u64,
    /// Journal between two checkpoints.
    pub checkpoint_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            segment_bytes: JOURNAL_SEGMENT_BYTES,
            keep_bytes: JOURNAL_KEEP_ALONE_BYTES,
            checkpoint_bytes: CHECKPOINT_JOURNAL_BYTES,
        }
    }
}

/// Which implementation of the key-value door keeps the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateStore {
    /// RocksDB.
    #[default]
    Rocks,
    /// The in-memory twin on the disk door, for simulations.
    Memory,
}

impl StateStore {
    /// Opens the store at `path`, made when absent.
    ///
    /// # Errors
    /// As the store's.
    pub fn open(self, env: &Env, path: &Path, cache_bytes: u64) -> Result<Arc<dyn Kv>, KvError> {
        Ok(match self {
            Self::Rocks => Arc::new(RocksKv::open(path, cache_bytes as usize)?),
            Self::Memory => Arc::new(MemoryKv::open(Arc::clone(&env.disk), path)?),
        })
    }

    /// Opens a checkpoint to look into it.
    ///
    /// # Errors
    /// As the store's.
    pub fn open_copy(self, env: &Env, path: &Path) -> Result<Arc<dyn Kv>, KvError> {
        Ok(match self {
            Self::Rocks => Arc::new(RocksKv::open_read_only(path)?),
            Self::Memory => Arc::new(MemoryKv::open(Arc::clone(&env.disk), path)?),
        })
    }
}

/// Why a sequencer cannot start; shown to the user as it is.
#[derive(Debug, Error)]
pub enum StartError {
    /// The journal is unreadable, corrupt or of another node.
    #[error("master: {0}")]
    Journal(#[from] JournalError),
    /// The state cannot be opened.
    #[error(
        "master: metadata state in {}: {detail}: move it away, copy the newest folder of {} to its place, and start \
         again; the journal since then is kept", state.display(), checkpoints.display()
    )]
    State {
        /// Where the state is.
        state: PathBuf,
        /// Where its checkpoints are.
        checkpoints: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// State and journal are of different histories.
    #[error("master: data directory {}: {detail}: restore both from one backup", data_dir.display())]
    Apart {
        /// The data directory.
        data_dir: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// The group could not be founded, or this member is none of it.
    #[error("master: {0}")]
    Group(String),
    /// The group exists and takes this member in as one without a journal.
    #[error("master: the group exists and awaits this master: it must be filled by its leader")]
    TakenIn,
    /// A copy of the state could not be installed.
    #[error("master: {0}")]
    Install(#[from] InstallError),
    /// The Raft machine refused its configuration.
    #[error("master: {0}")]
    Raft(#[from] RaftFailure),
    /// No thread, or no directory.
    #[error("master: data directory {}: {error}", data_dir.display())]
    Io {
        /// The data directory.
        data_dir: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

impl StartError {
    /// Whether a copy of the leader's state puts it right, and whether this member's own vote is lost; `None` when nothing of
    /// the kind helps.
    pub fn filling(&self) -> Option<LostVote> {
        let of_journal = |error: &JournalError| match error {
            JournalError::Corrupt { .. } | JournalError::Damaged { .. } => Some(LostVote(true)),
            JournalError::Io { .. } | JournalError::Stopped { .. } | JournalError::Trimmed(_) => None,
        };
        match self {
            // A journal that does not fit is none: what it says of votes is not the last word.
            Self::TakenIn | Self::Apart { .. } | Self::Install(InstallError::NoJournal(_)) => {
                Some(LostVote(true))
            }
            Self::Journal(error) | Self::Install(InstallError::Journal(error)) => of_journal(error),
            Self::State { .. } | Self::Install(InstallError::Record(_) | InstallError::TooOld { .. }) => {
                Some(LostVote(false))
            }
            Self::Install(InstallError::Io(_)) | Self::Group(_) | Self::Raft(_) | Self::Io { .. } => None,
        }
    }
}

/// Whether a member has lost its journal, and with it what it has voted and acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostVote(pub bool);

/// Why a running sequencer must stop. Nothing that is not yet answered is answered then.
#[derive(Debug, Error)]
pub(super) enum Fatal {
    /// Journal or Raft machine.
    #[error(transparent)]
    Raft(#[from] RaftFailure),
    /// The journal, beside Raft.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state.
    #[error("metadata state failed: {0}")]
    State(String),
    /// A committed entry that this binary cannot apply.
    #[error("journal entry {0} cannot be applied: {1}")]
    UnknownEntry(LogIndex, String),
    /// The group has given its place away.
    #[error(
        "master {0} is no member of its group any more: remove its configuration, or its data directory to join anew"
    )]
    Removed(u64),
    /// An entry was handed over out of order.
    #[error("entry {next} was to be applied after {applied}")]
    Order {
        /// Last one applied.
        applied: LogIndex,
        /// The one that came.
        next: LogIndex,
    },
}

/// Where things are in a data directory.
pub(super) fn state_path(data_dir: &Path) -> PathBuf {
    data_dir.join("state")
}

pub(super) fn checkpoint_path(data_dir: &Path) -> PathBuf {
    data_dir.join("checkpoints")
}

/// The opened state.
pub(super) struct State {
    kv: Arc<dyn Kv>,
    applied: Option<Applied>,
}

impl State {
    /// Whether it belongs to a group.
    pub(super) fn is_founded(&self) -> bool {
        self.applied.is_some()
    }
}

/// Opened state and journal.
pub(super) struct Opened {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) applied: Applied,
    pub(super) members: Members,
    pub(super) journal: Journal,
}

fn state_failed(settings: &Settings, detail: String) -> StartError {
    let (state, checkpoints) = (state_path(&settings.data_dir), checkpoint_path(&settings.data_dir));
    StartError::State { state, checkpoints, detail }
}

fn journal_config(settings: &Settings) -> JournalConfig {
    JournalConfig {
        directory: settings.data_dir.join("journal"),
        node: settings.node,
        segment_bytes: settings.tuning.segment_bytes,
        keep_bytes: settings.tuning.keep_bytes,
        cache_bytes: JOURNAL_CACHE_BYTES,
    }
}

/// Opens the state, after a copy that was fetched has taken its place. Blocks on the disk.
pub(super) fn open_state(env: &Env, settings: &Settings) -> Result<State, StartError> {
    install::finish(env, &settings.data_dir, &journal_config(settings))?;
    let state = state_path(&settings.data_dir);
    let kv = settings.store.open(env, &state, settings.cache_bytes);
    let kv = kv.map_err(|error| state_failed(settings, error.to_string()))?;
    let io = |error| StartError::Io { data_dir: settings.data_dir.clone(), error };
    env.disk.sync_dir(&settings.data_dir).map_err(io)?;
    let applied = read_applied(&*kv).map_err(|detail| state_failed(settings, detail))?;
    Ok(State { kv, applied })
}

/// Opens the journal beside the state, which belongs to the group of `founding` if to none yet. Blocks on the disk.
pub(super) fn open(
    env: &Env,
    settings: &Settings,
    State { kv, applied }: State,
    founding: Option<Members>,
) -> Result<Opened, StartError> {
    let fail = |detail: String| state_failed(settings, detail);
    let journal = Journal::open(Arc::clone(&env.disk), Arc::clone(&env.random), journal_config(settings))?;
    let applied = match applied {
        Some(applied) => applied,
        None => {
            let group = founding.unwrap_or_default();
            found(&*kv, settings, &group, &journal).map_err(fail)?
        }
    };
    let members = read_members(&*kv, settings).map_err(fail)?;
    let fits = journal.term(applied.last.index) == Some(applied.last.term);
    if !fits {
        let detail = format!(
            "the state has applied entry {} of term {}, but the journal holds {} to {}",
            applied.last.index.get(),
            applied.last.term.get(),
            journal.before().index.get() + 1,
            journal.last().index.get(),
        );
        return Err(StartError::Apart { data_dir: settings.data_dir.clone(), detail });
    }
    Ok(Opened { kv, applied, members, journal })
}

/// The row that says who the masters are; a master that was founded before there were groups is alone.
fn read_members(kv: &dyn Kv, settings: &Settings) -> Result<Members, String> {
    match kv.get(&MEMBERS_KEY, Wait::ForDisk).map_err(|error| error.to_string())? {
        None => {
            let this = Member { id: settings.node_id, node: settings.node, address: String::new() };
            Ok(Members::new(vec![this]).unwrap_or_default())
        }
        Some(value) => Members::decode(&value)
            .ok_or_else(|| "the row of its members is damaged or of a newer format".into()),
    }
}

/// The row that counts applied entries, if there is one.
pub(crate) fn read_applied(kv: &dyn Kv) -> Result<Option<Applied>, String> {
    match kv.get(&APPLIED_KEY, Wait::ForDisk).map_err(|error| error.to_string())? {
        None => Ok(None),
        Some(value) => match Applied::decode(&value) {
            Some(applied) if applied.feature_level <= FEATURE_LEVEL => Ok(Some(applied)),
            Some(applied) => Err(format!(
                "its feature level {} is newer than {FEATURE_LEVEL}: start a newer cairn binary",
                applied.feature_level
            )),
            None => Err("its first row is damaged or of a newer format".into()),
        },
    }
}

/// First rows of a new member: this master alone, or the group that was agreed upon. The journal of a crash while founding is
/// empty or holds all since the start.
fn found(kv: &dyn Kv, settings: &Settings, group: &Members, journal: &Journal) -> Result<Applied, String> {
    if journal.before().index > LogIndex(0) {
        return Err("it is empty, and the journal no longer reaches back to the beginning".into());
    }
    let mut voters: Vec<u64> = group.iter().map(|member| member.id).collect();
    if voters.is_empty() {
        voters.push(settings.node_id);
    }
    let applied = Applied { feature_level: FEATURE_LEVEL, voters, ..Applied::default() };
    let rows = vec![
        (Bytes::from_static(&APPLIED_KEY), Some(applied.encode())),
        (Bytes::from_static(&MEMBERS_KEY), Some(group.encode())),
    ];
    kv.write(&Batch { writes: rows }).and_then(|()| kv.flush()).map_err(|error| error.to_string())?;
    Ok(applied)
}
