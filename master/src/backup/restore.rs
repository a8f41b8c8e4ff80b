//! Restoring: the directory of a master that is alone, as the state was at a moment.
//!
//! The superblock is written last: a restore that was cut short leaves a directory that no master starts with. It begins a history
//! of its own (see `cairn_core::backup`), which it claims in the destination if that can be written to.

use super::SourceError;
use super::objects::{Objects, ObjectsError};
use super::place::read_manifest;
use super::replay::{ReplayError, Until, replay};
use super::survey::{Life, Survey};
use super::verify::{FetchError, fetch, read_shipment};
use crate::journal::{Journal, JournalConfig, JournalError};
use crate::sequencer::{KvRows, StateStore, read_applied};
use bytes::Bytes;
use cairn_core::address::host_port;
use cairn_core::backup::chain::{self, Chain};
use cairn_core::backup::names::ImageName;
use cairn_core::backup::{History, names, rebirth};
use cairn_core::ids::{ClusterId, LogIndex, NodeId};
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::frame::HardState;
use cairn_core::journal::members::{MEMBERS_KEY, Member, Members};
use cairn_core::limits::{JOURNAL_CACHE_BYTES, JOURNAL_KEEP_ALONE_BYTES, JOURNAL_SEGMENT_BYTES};
use cairn_core::namespace::machine::Stop;
use cairn_core::superblock::{Role, SUPERBLOCK_FILE, Superblock};
use cairn_core::time::Timestamp;
use cairn_env::Env;
use cairn_env::disk::replace_durably;
use cairn_env::kv::{Batch, Kv, KvError, Wait};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Directory of the state in that of a master.
const STATE: &str = "state";
/// Memory for blocks of the state while it is restored.
const CACHE_BYTES: u64 = 128 << 20;

/// Which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The last one that there is.
    Latest,
    /// When so many entries had been applied.
    Index(LogIndex),
    /// This leader time.
    Moment(Timestamp),
}

/// Where to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The directory: absent or empty.
    pub data_dir: PathBuf,
    /// `node_id` of the master that will start with it.
    pub id: u64,
    /// `host:port` at which others will reach it; `None`: where the master of this number was.
    pub address: Option<String>,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The cluster.
    pub cluster: ClusterId,
    /// From which of its histories.
    pub from: History,
    /// Which one it goes on in.
    pub history: History,
    /// Whether that was noted in the destination.
    pub claimed: Result<(), String>,
    /// The image begun with.
    pub image: LogIndex,
    /// How far it is.
    pub applied: Applied,
    /// Last entry that could have been restored, and its leader time if known.
    pub reach: (LogIndex, Option<Timestamp>),
    /// Shipped entries beyond that, which a gap or damage separates from it.
    pub beyond: Option<LogIndex>,
    /// What was wrong with newer images than the one begun with, which lead to the same moment.
    pub passed_over: Vec<String>,
}

/// Why nothing was restored; shown to the user as it is.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// Something in the destination.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is none.
    #[error("{0}")]
    Nothing(String),
    /// An object that is whole does not fit.
    #[error(
        "{name} {error}: nothing was restored; choose another moment or image, `cairn admin backup list` shows them"
    )]
    Unfit {
        /// The object.
        name: String,
        /// What is wrong.
        error: String,
    },
    /// The directory is somebody's.
    #[error("{0} is not empty: name a directory that is absent or empty")]
    NotEmpty(PathBuf),
    /// The system refused.
    #[error(
        "restoring into {path}: {error}: make room or name another directory, empty it, and restore again"
    )]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The state.
    #[error("restoring the state: {0}")]
    State(#[from] KvError),
    /// The journal.
    #[error("beginning the journal: {0}")]
    Journal(#[from] JournalError),
}

/// Restores `life` to a moment. `survey` is of the same destination.
///
/// # Errors
/// See [`RestoreError`]; the directory is then not fit to start with.
pub async fn restore(
    env: &Env,
    objects: &Objects,
    (survey, life): (&Survey, &Life),
    to: To,
    target: &Target,
) -> Result<Restored, RestoreError> {
    let io = |error: io::Error| RestoreError::Io { path: target.data_dir.clone(), error };
    if env.disk.exists(&target.data_dir).map_err(io)?
        && !env.disk.list(&target.data_dir).map_err(io)?.is_empty()
    {
        return Err(RestoreError::NotEmpty(target.data_dir.clone()));
    }
    if let Some(address) = target.address.as_ref().filter(|address| host_port(address).is_none()) {
        return Err(RestoreError::Nothing(format!(
            "\"{address}\" is not host:port: no master is reached there"
        )));
    }
    let of = (life.cluster, life.history);
    let (images, until) = choose(life, to)?;
    let Begun { image, kv, mut applied, passed_over } = begin(env, objects, of, images, target).await?;
    let to = if let Until::Index(index) = until { Some(index) } else { None };
    let chain = chain::follow(image, &life.holdings.shipments, to);
    let unfit = |name: String, error: String| RestoreError::Unfit { name, error };
    for &stretch in &chain.shipments {
        let shipment = read_shipment(objects, of, stretch).await?;
        let ended = replay(&*kv, &mut applied, &shipment, until).map_err(|error| match error {
            ReplayError::State(error) => RestoreError::State(error),
            error => unfit(names::shipment(of.0, of.1, stretch), error.to_string()),
        })?;
        if ended {
            break;
        }
    }
    let known = survey.lives.iter().filter(|other| other.cluster == life.cluster);
    let known = known.map(|other| other.history).chain([History::of(applied.last.term)]);
    let (history, claimed) = claim(env, objects, life, History::after(known), &applied).await;
    let reach = newest(life, &chain);
    let beyond = life.holdings.shipments.last().map(|last| last.last).filter(|last| *last > reach.0);
    let applied = found(env, kv, applied, (life.cluster, history), target)?;
    Ok(Restored {
        cluster: life.cluster,
        from: life.history,
        history,
        claimed,
        image: chain.image.index,
        applied,
        reach,
        beyond,
        passed_over,
    })
}

/// A state to go on from.
struct Begun {
    image: ImageName,
    kv: Arc<dyn Kv>,
    applied: Applied,
    passed_over: Vec<String>,
}

/// Fetches the first of `images` that is whole: each leads to the same moment, the later ones over more journal.
async fn begin(
    env: &Env,
    objects: &Objects,
    of: (ClusterId, History),
    images: Vec<ImageName>,
    target: &Target,
) -> Result<Begun, RestoreError> {
    let io = |error: io::Error| RestoreError::Io { path: target.data_dir.clone(), error };
    let (mut passed_over, mut first) = (Vec::new(), None);
    for image in images {
        let error = match open_image(env, objects, of, image, target).await {
            Ok((kv, applied)) => return Ok(Begun { image, kv, applied, passed_over }),
            Err(error) => error,
        };
        let of_image = matches!(
            error,
            RestoreError::Unfit { .. }
                | RestoreError::State(_)
                | RestoreError::Source(
                    SourceError::Object { .. } | SourceError::Objects(ObjectsError::Missing { .. })
                )
        );
        if !of_image {
            return Err(error);
        }
        let state = target.data_dir.join(STATE);
        if env.disk.exists(&state).map_err(io)? {
            env.disk.remove_dir_all(&state).map_err(io)?;
        }
        passed_over.push(error.to_string());
        first.get_or_insert(error);
    }
    Err(first.unwrap_or_else(|| RestoreError::Nothing("there is no image to begin with".to_owned())))
}

async fn open_image(
    env: &Env,
    objects: &Objects,
    of: (ClusterId, History),
    image: ImageName,
    target: &Target,
) -> Result<(Arc<dyn Kv>, Applied), RestoreError> {
    let manifest = read_manifest(objects, of, image).await?;
    let state = target.data_dir.join(STATE);
    fetch(env, objects, of, (image, &manifest), &state).await.map_err(|error| match error {
        FetchError::Source(error) => RestoreError::Source(error),
        FetchError::Disk(_, error) => RestoreError::Io { path: target.data_dir.clone(), error },
    })?;
    let kv = StateStore::Rocks.open(env, &state, CACHE_BYTES)?;
    let unfit = |error: String| RestoreError::Unfit { name: names::image(of.0, of.1, image), error };
    let applied = read_applied(&*kv).map_err(unfit)?;
    let applied = applied
        .filter(|applied| manifest.is_of(applied))
        .ok_or_else(|| unfit("is not the state that its manifest names".to_owned()))?;
    Ok((kv, applied))
}

fn newest(life: &Life, chain: &Chain) -> (LogIndex, Option<Timestamp>) {
    let image = life.images.iter().find(|image| image.name == chain.image);
    image.map_or((chain.reach, None), |image| (image.reach, image.until))
}

/// From which images, the best one first, and where to stop.
fn choose(life: &Life, to: To) -> Result<(Vec<ImageName>, Until), RestoreError> {
    let nothing = |what: String| {
        let (cluster, history) = (life.cluster, life.history);
        RestoreError::Nothing(format!(
            "history {history} of cluster {cluster} {what}: `cairn admin backup list` shows what can be restored"
        ))
    };
    match to {
        To::Latest => {
            let images = chain::reaching(&life.holdings, None);
            if images.is_empty() {
                Err(nothing("has no complete image".to_owned()))
            } else {
                Ok((images, Until::End))
            }
        }
        To::Index(index) => {
            let images = chain::reaching(&life.holdings, Some(index));
            match images.is_empty() {
                true => Err(nothing(format!("does not reach entry {}", index.get()))),
                false => Ok((images, Until::Index(index))),
            }
        }
        To::Moment(moment) => {
            let time = |image: &super::Image| image.manifest.as_ref().ok().map(|manifest| manifest.time);
            let before =
                life.images.iter().rev().find(|image| time(image).is_some_and(|time| time <= moment));
            let image = before.ok_or_else(|| nothing("has no image that old".to_owned()))?;
            let next = life.images.iter().find(|other| other.name > image.name && other.reach > image.reach);
            if let (Some(next), Some(until)) = (next, image.until)
                && until < moment
            {
                let to = next.name.index.get();
                let from = image.reach.get() + 1;
                return Err(nothing(format!("has a gap at that moment, entries {from} to {to}")));
            }
            let older = life.images.iter().rev().filter(|other| other.name <= image.name);
            let images = older.filter(|other| other.reach == image.reach).map(|other| other.name);
            Ok((images.collect(), Until::Moment(moment)))
        }
    }
}

/// Claims the first history from `history` on that is free.
async fn claim(
    env: &Env,
    objects: &Objects,
    life: &Life,
    mut history: History,
    applied: &Applied,
) -> (History, Result<(), String>) {
    loop {
        let text = format!(
            "restored from history {} after entry {}, leader time {}, at {}\n",
            life.history,
            applied.last.index.get(),
            applied.time.seconds,
            env.clock.wall().seconds
        );
        match objects.claim(&names::origin(life.cluster, history), text.into()).await {
            Ok(true) => return (history, Ok(())),
            // Another restore at the same time.
            Ok(false) => history = History(history.0 + 1),
            Err(error) => return (history, Err(error.to_string())),
        }
    }
}

/// Makes the directory that of a founded group of one. Blocks on the disk.
fn found(
    env: &Env,
    kv: Arc<dyn Kv>,
    applied: Applied,
    (cluster, history): (ClusterId, History),
    target: &Target,
) -> Result<Applied, RestoreError> {
    let io = |error: io::Error| RestoreError::Io { path: target.data_dir.clone(), error };
    let node = NodeId(env.random.uuid());
    let was = kv.get(&MEMBERS_KEY, Wait::ForDisk)?.and_then(|row| Members::decode(&row));
    let was = was.as_ref().and_then(|members| members.get(target.id)).map(|member| member.address.clone());
    let address = target.address.clone().or(was).filter(|address| !address.is_empty()).ok_or_else(|| {
        let id = target.id;
        RestoreError::Nothing(format!(
            "the group had no master {id}: say with --address where it will be reached"
        ))
    })?;
    let members = Members::new(vec![Member { id: target.id, node, address: address.clone() }]);
    let members =
        members.ok_or_else(|| RestoreError::Nothing(format!("{address} is no address of a master")))?;
    let applied = Applied { voters: vec![target.id], learners: Vec::new(), ..applied };
    let jumped = rebirth::skip_numbers(&KvRows::new(&*kv, Wait::ForDisk)).map_err(|error| match error {
        Stop::Failed(detail) => RestoreError::State(KvError::Failed(detail)),
        Stop::NotInMemory | Stop::Refused(_) => RestoreError::State(KvError::NotInMemory),
    })?;
    let mut batch = Batch { writes: jumped };
    batch.writes.push((Bytes::from_static(&MEMBERS_KEY), Some(members.encode())));
    batch.writes.push((Bytes::from_static(&APPLIED_KEY), Some(applied.encode())));
    kv.write(&batch)?;
    kv.flush()?;
    drop(kv);
    let journal = JournalConfig {
        directory: target.data_dir.join("journal"),
        node,
        segment_bytes: JOURNAL_SEGMENT_BYTES,
        keep_bytes: JOURNAL_KEEP_ALONE_BYTES,
        cache_bytes: JOURNAL_CACHE_BYTES,
    };
    let mut journal = Journal::open(Arc::clone(&env.disk), Arc::clone(&env.random), journal)?;
    let hard = HardState { term: history.begins_in(), vote: 0, commit: applied.last.index };
    journal.reset(hard, applied.last)?;
    journal.close_mark()?;
    drop(journal);
    env.disk.sync_dir(&target.data_dir).map_err(io)?;
    let superblock = Superblock::new(cluster, node, Role::Master, None);
    replace_durably(&*env.disk, &target.data_dir.join(SUPERBLOCK_FILE), &superblock.encode()).map_err(io)?;
    Ok(applied)
}
