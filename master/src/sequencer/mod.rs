//! The sequencer: the one owner of the namespace. Everything that changes it passes here, in one order.
//!
//! A request is decided against the applied state with the proposed rows laid over it, its record proposed to Raft, and
//! its answer held until the entry is durable and committed. Its rows are written after that; a read that begins after an
//! answer has left waits for them. A refusal writes nothing, and is held until all that it saw is committed.

mod apply;
mod backlog;
mod group_change;
mod group_view;
mod handle;
mod jobs;
mod journal_read;
mod metrics;
mod open;
mod overlay;
mod owner;
mod pins;
mod progress;
mod proposals;
mod reader;
mod rows;
mod settle;
#[cfg(test)]
pub(crate) mod stepped;
mod wait;
mod work;

#[cfg(test)]
mod sequencer_test;

pub use group_view::GroupView;
pub use handle::{GroupRefusal, Leadership, RaiseOrder, SequencerHandle, Submitted};
pub use journal_read::{JournalRead, JournalReadError};
pub use metrics::SequencerMetrics;
pub use open::{LostVote, Settings, StartError, StateStore, Tuning};
pub(crate) use overlay::{Overlay, OverlayRows};
pub use pins::{JournalPin, JournalPins};
pub use reader::Reader;
pub(crate) use rows::KvRows;

use crate::raft::{Group, GroupConfig};
use apply::Applier;
pub(crate) use apply::Committed;
use cairn_core::cluster::ClusterView;
use cairn_core::journal::members::Members;
use cairn_core::limits::{PEER_MESSAGES_WAITING, SEQUENCER_QUEUE_MAX};
use cairn_env::Env;
use cairn_env::spawn::{Owner, Spawn};
use group_change::GroupState;
pub(crate) use open::read_applied;
use owner::Sequencer;
use progress::Progress;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// Opens journal and state in a data directory that is locked and of this node, and starts the sequencer's thread. It
/// leads, if it is alone, as soon as what the state lacks is replayed: watch [`SequencerHandle::leadership`]. `founding` says
/// who the group is, and is asked only when the directory belongs to none yet.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    env: &Env,
    settings: Settings,
    view: watch::Receiver<Arc<ClusterView>>,
    founding: impl Future<Output = Result<Members, StartError>>,
) -> Result<(SequencerHandle, Owner), StartError> {
    let spawn: Arc<dyn Spawn> = Arc::clone(&env.spawn);
    let data_dir = settings.data_dir.clone();
    let io = |error| StartError::Io { data_dir: data_dir.clone(), error };
    let state = {
        let (env, settings) = (env.clone(), settings.clone());
        spawn.blocking(move || open::open_state(&env, &settings))
    };
    let state = state.await.map_err(|lost| io(io::Error::other(lost)))??;
    let founding = match state.is_founded() {
        true => None,
        false => Some(founding.await?),
    };
    let opening = {
        let (env, runtime) = (env.clone(), Some(Handle::current()));
        spawn.blocking(move || open_parts(env, &settings, state, founding, view, runtime))
    };
    let opened = opening.await.map_err(|lost| io(io::Error::other(lost)))?;
    let (handle, sequencer) = opened?;
    let owner = spawn.owner("sequencer", sequencer.run()).map_err(io)?;
    Ok((handle, owner))
}

fn open_parts(
    env: Env,
    settings: &Settings,
    state: open::State,
    founding: Option<Members>,
    view: watch::Receiver<Arc<ClusterView>>,
    runtime: Option<Handle>,
) -> Result<(SequencerHandle, Sequencer), StartError> {
    let open::Opened { kv, applied, members, journal } = open::open(&env, settings, state, founding)?;
    let config = GroupConfig {
        id: settings.node_id,
        voters: applied.voters.clone(),
        learners: applied.learners.clone(),
        applied: applied.last.index,
    };
    let group = Group::open(&config, journal, Arc::clone(&env.random), env.clock.now())?;
    let (requests, inbox) = mpsc::channel(SEQUENCER_QUEUE_MAX);
    let (hears, heard) = mpsc::channel(PEER_MESSAGES_WAITING);
    let (leading, leadership) = watch::channel(Leadership::Follows { leader: 0 });
    let (shows, group_view) = watch::channel(Arc::new(GroupView::default()));
    let metrics = Arc::new(SequencerMetrics::default());
    let progress = Progress::new(applied.last.index);
    let reader = Reader {
        progress: progress.clone(),
        kv: Arc::clone(&kv),
        leadership: leadership.clone(),
        lease: group.lease().clone(),
        view: view.clone(),
        failures: requests.clone(),
        group: group_view.clone(),
        env: env.clone(),
        default_replicas: settings.default_replicas,
    };
    let (member_changes, members) = watch::channel(Arc::new(members));
    let masters = GroupState { id: settings.node_id, members: member_changes, under_way: None };
    let must_be_filled = Arc::new(OnceLock::new());
    let handle = SequencerHandle {
        requests,
        heard: hears,
        group_view,
        members,
        must_be_filled: Arc::clone(&must_be_filled),
        leadership,
        metrics: Arc::clone(&metrics),
        reader,
    };
    let applier = Applier { kv, applied, progress, caching: Arc::clone(&settings.caching) };
    let (inputs, outputs, masters) = ((inbox, heard), (leading, shows), (masters, must_be_filled));
    let sequencer =
        Sequencer::new(env, settings, group, applier, view, inputs, outputs, masters, metrics, runtime);
    Ok((handle, sequencer))
}
