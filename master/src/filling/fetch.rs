//! Fetching a copy: finds the leader, asks to be taken in when the own vote is lost, and writes what arrives beside the state.

use super::install::{FILLED, FILLING, RECORD, STATE, remove_dir};
use crate::checkpoint;
use crate::config::MasterConfig;
use crate::data_dir::{self, DataDir};
use crate::peers::Identity;
use crate::sequencer::StateStore;
use crate::server::MasterError;
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::frame::LogId;
use cairn_core::journal::install::Install;
use cairn_core::limits::{CONTROL_MESSAGE_BYTES_MAX, FILL_PAUSE, FILL_SILENCE_MAX, GROUP_CHANGE_PATIENCE};
use cairn_env::Env;
use cairn_env::disk::{DiskFile, OpenMode};
use cairn_env::net::grpc;
use cairn_proto::v1::fill_part::Part;
use cairn_proto::v1::group_client::GroupClient;
use cairn_proto::v1::join_reply::Outcome;
use cairn_proto::v1::{
    FillData, FillPart, FillPlan, FillRequest, JoinRequest, Joined, Refused, RefusedReason, Role,
};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tonic::transport::Channel;
use tracing::{info, warn};

/// Why an attempt came to nothing; another one is made.
#[derive(Debug, Error)]
enum FetchError {
    /// A master said no, or was not reached.
    #[error("{reason}")]
    Refused {
        /// In words, with the master's address.
        reason: String,
        /// Who leads instead; empty when that is not known.
        leader: String,
    },
    /// The stream broke off; the rest is asked for.
    #[error("the copy broke off: {0}")]
    BrokenOff(String),
    /// What came does not fit together; begun anew.
    #[error("the copy is not what was announced: {0}")]
    Unfit(String),
    /// The disk.
    #[error("writing the copy: {0}")]
    Disk(#[from] io::Error),
}

/// A copy on its way.
struct Download {
    plan: FillPlan,
    /// Bytes that are there, over all files.
    received: u64,
    open: Option<(u32, Arc<dyn DiskFile>)>,
}

/// Who fetches, and where to.
struct Fetch<'a> {
    env: &'a Env,
    identity: Identity,
    data_dir: PathBuf,
    masters: Vec<String>,
    store: StateStore,
}

/// Fetches a copy of the state and makes it durable beside what is there; the next start installs it. Tries until it succeeds.
/// With `lost_vote` this member is first taken in anew, without a vote.
///
/// # Errors
/// The data directory cannot be opened, or this master is alone.
pub(crate) async fn fill(env: &Env, config: &MasterConfig, lost_vote: bool) -> Result<(), MasterError> {
    let opening = {
        let (env, config, wanted) = (env.clone(), config.clone(), config.cluster_id()?);
        move || data_dir::open(&env, &config, wanted)
    };
    let data_dir: DataDir =
        env.spawn.blocking(opening).await.map_err(|lost| MasterError::Ended(lost.to_string()))??;
    let others = config.group("")?.into_iter().filter(|(id, _)| *id != config.node_id);
    let fetch = Fetch {
        env,
        identity: Identity { cluster: data_dir.cluster, node: data_dir.node, id: config.node_id },
        data_dir: data_dir.path.clone(),
        masters: others.map(|(_, address)| address).collect(),
        store: config.store,
    };
    let (mut download, mut told) = (None, String::new());
    loop {
        match fetch.attempt(lost_vote, &mut download).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let reason = error.to_string();
                if reason != told {
                    warn!(reason, "this master must be filled by another one, and goes on trying");
                }
                told = reason;
                if !matches!(error, FetchError::BrokenOff(_) | FetchError::Refused { .. }) {
                    download = None;
                }
            }
        }
        tokio::time::sleep(FILL_PAUSE).await;
    }
}

impl Fetch<'_> {
    /// Asks the masters one after the other, the leader as soon as one of them names it.
    async fn attempt(&self, lost_vote: bool, download: &mut Option<Download>) -> Result<(), FetchError> {
        let mut to_ask: VecDeque<String> = self.masters.iter().cloned().collect();
        let (mut asked, mut reasons) = (BTreeSet::new(), Vec::new());
        while let Some(address) = to_ask.pop_front() {
            if !asked.insert(address.clone()) {
                continue;
            }
            match self.attempt_at(&address, lost_vote, download).await {
                Err(FetchError::Refused { reason, leader }) => {
                    reasons.push(reason);
                    if !leader.is_empty() {
                        to_ask.push_front(leader);
                    }
                }
                // It may be frozen, and another one not.
                Err(broken @ FetchError::BrokenOff(_)) => reasons.push(broken.to_string()),
                done => return done,
            }
        }
        Err(FetchError::Refused { reason: reasons.join("; "), leader: String::new() })
    }

    async fn attempt_at(
        &self,
        address: &str,
        lost_vote: bool,
        download: &mut Option<Download>,
    ) -> Result<(), FetchError> {
        let joined = if lost_vote { Some(self.join(address).await?) } else { None };
        self.receive(address, !lost_vote, download).await?;
        let Some(complete) = download.take() else { return Err(FetchError::BrokenOff("no plan".into())) };
        self.complete(complete.plan, joined.map(|joined| (Term(joined.term), joined.leader))).await
    }

    /// Asks to be taken in without a vote.
    async fn join(&self, address: &str) -> Result<Joined, FetchError> {
        let silent = |message: String| refused(address, &Refused { message, ..Refused::default() });
        let mut client = self.client(address).await?;
        let mut request = tonic::Request::new(JoinRequest {
            hello: Some(cairn_proto::hello::hello(self.identity.cluster, self.identity.node, Role::Master)),
            id: self.identity.id,
        });
        request.set_timeout(GROUP_CHANGE_PATIENCE * 3);
        let reply = client.join(request).await.map_err(|status| silent(status.message().to_owned()))?;
        match reply.into_inner().outcome {
            Some(Outcome::Joined(joined)) => Ok(joined),
            Some(Outcome::Refused(said)) => Err(refused(address, &said)),
            None => Err(silent("it says nothing".to_owned())),
        }
    }

    async fn client(&self, address: &str) -> Result<GroupClient<Channel>, FetchError> {
        let channel = grpc::connect(&self.env.net, address).await;
        let channel = channel.map_err(|error| FetchError::Refused {
            reason: format!("master {address}: {error}"),
            leader: String::new(),
        })?;
        Ok(GroupClient::new(channel).max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX))
    }

    /// Receives the copy, or the rest of it, and makes it durable.
    async fn receive(
        &self,
        address: &str,
        keeps_vote: bool,
        download: &mut Option<Download>,
    ) -> Result<(), FetchError> {
        let broken = |error: String| FetchError::BrokenOff(format!("master {address}: {error}"));
        let mut client = self.client(address).await?;
        let request = FillRequest {
            hello: Some(cairn_proto::hello::hello(self.identity.cluster, self.identity.node, Role::Master)),
            id: self.identity.id,
            copy: download.as_ref().map(|download| download.plan.copy.clone()).unwrap_or_default(),
            received: download.as_ref().map_or(0, |download| download.received),
            keeps_vote,
        };
        let asking = tokio::time::timeout(FILL_SILENCE_MAX, client.fill(request)).await;
        let stream = asking.map_err(|_| broken("no answer".to_owned()))?;
        let mut stream = stream.map_err(|status| broken(status.message().to_owned()))?.into_inner();
        loop {
            let next = tokio::time::timeout(FILL_SILENCE_MAX, stream.message()).await;
            let next = next.map_err(|_| broken("it has fallen silent".to_owned()))?;
            match next.map_err(|status| broken(status.message().to_owned()))? {
                Some(FillPart { part: Some(Part::Plan(plan)) }) => self.begin(plan, download).await?,
                Some(FillPart { part: Some(Part::Data(data)) }) => self.write(data, download).await?,
                Some(FillPart { part: Some(Part::Refused(said)) }) => return Err(refused(address, &said)),
                Some(FillPart { part: None }) => {}
                None => break,
            }
        }
        match download {
            Some(download) if download.received == whole(&download.plan) => Ok(()),
            _ => Err(broken("it ended before its end".to_owned())),
        }
    }

    /// A plan has come: the rest of the same copy, or a new one.
    async fn begin(&self, plan: FillPlan, download: &mut Option<Download>) -> Result<(), FetchError> {
        let is_rest = download
            .as_ref()
            .is_some_and(|begun| begun.plan.copy == plan.copy && begun.received == plan.from);
        if is_rest {
            return Ok(());
        }
        if plan.from != 0 {
            return Err(FetchError::Unfit("it does not begin at its beginning".to_owned()));
        }
        let plain = |name: &str| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
        };
        if plan.index == 0 || plan.files.iter().any(|file| !plain(&file.name)) {
            return Err(FetchError::Unfit("its plan makes no sense".to_owned()));
        }
        let (disk, data_dir) = (Arc::clone(&self.env.disk), self.data_dir.clone());
        let files = plan.files.clone();
        self.blocking(move || {
            remove_dir(&*disk, &data_dir.join(FILLED))?;
            remove_dir(&*disk, &data_dir.join(FILLING))?;
            let state = data_dir.join(FILLING).join(STATE);
            disk.create_dir_all(&state)?;
            // The empty ones get no part of their own.
            files.iter().try_for_each(|file| disk.open(&state.join(&file.name), OpenMode::Create).map(drop))
        })
        .await?;
        *download = Some(Download { plan, received: 0, open: None });
        Ok(())
    }

    async fn write(&self, data: FillData, download: &mut Option<Download>) -> Result<(), FetchError> {
        let unfit = |what: &str| FetchError::Unfit(what.to_owned());
        let download = download.as_mut().ok_or_else(|| unfit("data came before the plan"))?;
        let before: u64 = download.plan.files.iter().take(data.file as usize).map(|file| file.bytes).sum();
        let file = download.plan.files.get(data.file as usize).ok_or_else(|| unfit("a file too many"))?;
        let length = data.bytes.len() as u64;
        if before + data.offset != download.received || data.offset + length > file.bytes {
            return Err(unfit("a part is missing"));
        }
        if crc32fast::hash(&data.bytes) != data.crc {
            return Err(unfit("a part is damaged"));
        }
        let opened = download.open.take().filter(|(open, _)| *open == data.file).map(|(_, handle)| handle);
        let is_last = data.offset + length == file.bytes;
        let (disk, path) =
            (Arc::clone(&self.env.disk), self.data_dir.join(FILLING).join(STATE).join(&file.name));
        let number = data.file;
        let handle = self
            .blocking(move || {
                let handle = opened.map_or_else(|| disk.open(&path, OpenMode::Write), Ok)?;
                handle.write_all_at(&data.bytes, data.offset)?;
                if is_last {
                    handle.sync_all()?;
                } else {
                    handle.start_writeback(data.offset, length)?;
                }
                Ok(handle)
            })
            .await?;
        download.received += length;
        download.open = Some((number, handle));
        Ok(())
    }

    /// Everything is there: it is looked into, and the record written that makes it count.
    async fn complete(&self, plan: FillPlan, lost_vote: Option<(Term, u64)>) -> Result<(), FetchError> {
        let (env, data_dir, store) = (self.env.clone(), self.data_dir.clone(), self.store);
        let last = LogId { index: LogIndex(plan.index), term: Term(plan.term) };
        let reached = self
            .blocking(move || {
                let (disk, filling) = (&*env.disk, data_dir.join(FILLING));
                disk.sync_dir(&filling.join(STATE))?;
                let reached = checkpoint::reaches(&env, store, &filling.join(STATE));
                let reached = reached.map_err(io::Error::other)?;
                if reached.last == last && reached.hash == plan.hash {
                    let record = disk.open(&filling.join(RECORD), OpenMode::Create)?;
                    record.write_all_at(&Install { last, lost_vote }.encode(), 0)?;
                    record.sync_all()?;
                    disk.sync_dir(&filling)?;
                    disk.rename(&filling, &data_dir.join(FILLED))?;
                    disk.sync_dir(&data_dir)?;
                }
                Ok(reached)
            })
            .await?;
        if reached.last != last || reached.hash != plan.hash {
            return Err(FetchError::Unfit(format!(
                "it has applied entry {} and not {}",
                reached.last.index.get(),
                last.index.get()
            )));
        }
        info!(
            applied = last.index.get(),
            mib = whole(&plan) >> 20,
            "a copy of the leader's state is complete"
        );
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, FetchError> {
        let done = self.env.spawn.blocking(work).await;
        Ok(done.map_err(io::Error::other)??)
    }
}

fn refused(address: &str, said: &Refused) -> FetchError {
    let elsewhere = said.reason() == RefusedReason::RefusedNotLeader;
    let leader = if elsewhere { said.leader.clone() } else { String::new() };
    FetchError::Refused { reason: format!("master {address}: {}", said.message), leader }
}

fn whole(plan: &FillPlan) -> u64 {
    plan.files.iter().map(|file| file.bytes).sum()
}
