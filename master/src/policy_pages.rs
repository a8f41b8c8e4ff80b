//! Storage policies as operators ask for them.

use crate::admin_service::to_status;
use crate::hello::printable;
use crate::parts::Parts;
use crate::placement_pages::{ask, walk};
use cairn_core::cluster::policy::is_name;
use cairn_core::cluster::{ClusterView, Labels, Policy};
use cairn_core::error::FsError;
use cairn_core::ids::{InodeId, PolicyId};
use cairn_core::limits::{
    DIRECTORY_PAGE_ENTRIES_MAX, POLICIES_MAX, POLICY_DIRECTORIES_OPEN_MAX, POLICY_ENTRIES_AT_ONCE,
    POLICY_INODES_AT_ONCE, POLICY_NAME_BYTES_MAX, REPLICAS_MAX,
};
use cairn_core::namespace::alignment;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::NodeKind;
use cairn_core::namespace::chunk_set::minimum_of;
use cairn_core::namespace::internal::{Internal, PolicyChanges, PolicyStep};
use cairn_core::namespace::policies::{self, PolicyRecord, policy_of};
use cairn_core::namespace::request::QueryKind;
use cairn_core::namespace::work::{chunks_given, totals};
use cairn_proto::v1::policy_request::Ask;
use cairn_proto::v1::{
    PolicyChange, PolicyCreate, PolicyInfo, PolicyPlace, PolicyReply, PolicyRequest, PolicySet, PolicyWalk,
};
use tonic::Status;

/// Does what is asked for.
///
/// # Errors
/// For the operator.
pub(crate) async fn answer(parts: &Parts, request: PolicyRequest) -> Result<PolicyReply, Status> {
    let failed = |error: FsError| to_status(parts, &error);
    match request.ask {
        None => Err(invalid(parts, "nothing is asked for")),
        Some(Ask::List(_)) => list(parts).await.map_err(failed),
        Some(Ask::Create(create)) => {
            let policy = new_policy(parts, create)?;
            let name = policy.name.clone();
            step(parts, &name, PolicyStep::Create(policy)).await
        }
        Some(Ask::Change(change)) => {
            let policy = named(parts, &change.name).await?;
            let changes = changes(parts, &change)?;
            step(parts, &change.name, PolicyStep::Change { policy, changes }).await
        }
        Some(Ask::Remove(name)) => {
            let policy = named(parts, &name).await?;
            step(parts, &name, PolicyStep::Remove { policy }).await
        }
        Some(Ask::Show(path)) => {
            let (inode, _, _) = walk(parts, &path).await.map_err(failed)?;
            let policy = parts.reader.read(move |rows| policy_of(rows, inode)).await.map_err(failed)?;
            let all = infos(parts).await.map_err(failed)?;
            let policies = all.into_iter().filter(|info| info.policy == policy.get()).collect();
            Ok(PolicyReply { policies, ..PolicyReply::default() })
        }
        Some(Ask::Set(set)) => {
            let policy = named(parts, &set.name).await?;
            give(parts, set, policy).await.map_err(failed)
        }
    }
}

fn invalid(parts: &Parts, text: &str) -> Status {
    Status::invalid_argument(format!("master {}: {text}", parts.address))
}

/// All policies, the default one first.
///
/// # Errors
/// This master does not lead, or its state cannot be read.
pub(crate) async fn records(parts: &Parts) -> Result<Vec<PolicyRecord>, FsError> {
    let default_replicas = parts.config.default_replicas;
    let mut records = parts.reader.read(move |rows| policies::records(rows, default_replicas)).await?;
    let totals = parts.reader.read(totals).await?;
    let sum = |of: fn(&PolicyRecord) -> u64| records.iter().map(of).fold(0, u64::saturating_add);
    let (inodes, chunks) = (sum(|record| record.inodes), sum(|record| record.chunks));
    if let Some(default) = records.first_mut() {
        default.inodes = totals.inodes.saturating_sub(inodes);
        default.chunks = totals.chunks.saturating_sub(chunks);
    }
    Ok(records)
}

/// All policies, with the servers that they can use.
///
/// # Errors
/// As [`records`].
pub(crate) async fn infos(parts: &Parts) -> Result<Vec<PolicyInfo>, FsError> {
    let view = parts.servers.view(parts.now());
    Ok(records(parts).await?.iter().map(|record| info(&view, record)).collect())
}

fn info(view: &ClusterView, record: &PolicyRecord) -> PolicyInfo {
    let (servers, racks) = record.says.servers(view);
    PolicyInfo {
        policy: record.policy.get(),
        name: record.says.name.clone(),
        replicas: u32::from(record.says.replicas),
        minimum: u32::from(record.says.minimum),
        required: record.says.required.texts().collect(),
        inodes: record.inodes,
        chunks: record.chunks,
        servers: servers as u32,
        racks: racks as u32,
    }
}

/// What policies ask for and the servers that are there cannot give.
pub(crate) fn warnings(view: &ClusterView, records: &[PolicyRecord]) -> Vec<String> {
    let has_racks = view.servers.values().any(|server| server.labels.get("rack").is_some());
    let warning = |record: &PolicyRecord| {
        let Policy { name, replicas, required, .. } = &record.says;
        let (servers, racks) = record.says.servers(view);
        let wanted = usize::from(*replicas);
        let labels = required.texts().collect::<Vec<_>>().join(" ");
        match (servers < wanted, racks < wanted && has_racks) {
            (true, _) if !required.is_empty() => Some(format!(
                "policy {name} wants {replicas} chunk servers with {labels}, and {servers} are alive: other servers hold \
                 the rest; label more of them (`labels` in their configuration), or `cairn admin policy change {name}`"
            )),
            (false, true) => Some(format!(
                "policy {name} wants {replicas} copies, and its servers stand in {racks} racks: some share one; see \
                 `cairn admin servers`"
            )),
            _ => None,
        }
    };
    let is_used = |record: &&PolicyRecord| record.inodes > 0 || record.chunks > 0;
    records.iter().filter(is_used).filter_map(warning).collect()
}

async fn list(parts: &Parts) -> Result<PolicyReply, FsError> {
    let walk = parts.reader.read(alignment::walk).await?;
    let chunks_given = parts.reader.read(chunks_given).await?;
    let walk = walk.map(|row| PolicyWalk {
        next: row.next.get(),
        chunks_given,
        changed: row.changed,
        since_seconds: row.since.seconds,
        again: row.again,
    });
    Ok(PolicyReply { policies: infos(parts).await?, walk, ..PolicyReply::default() })
}

async fn named(parts: &Parts, name: &str) -> Result<PolicyId, Status> {
    let records = records(parts).await.map_err(|error| to_status(parts, &error))?;
    let found = records.iter().find(|record| record.says.name == name);
    found.map(|record| record.policy).ok_or_else(|| {
        Status::not_found(format!(
            "master {}: there is no policy \"{}\": see `cairn admin policy list`",
            parts.address,
            printable(name)
        ))
    })
}

fn labels(parts: &Parts, texts: &[String]) -> Result<Labels, Status> {
    Labels::parse(texts).map_err(|error| invalid(parts, &error.to_string()))
}

fn number(parts: &Parts, replicas: u32) -> Result<u8, Status> {
    let fits =
        u8::try_from(replicas).ok().filter(|&replicas| (1..=REPLICAS_MAX).contains(&usize::from(replicas)));
    fits.ok_or_else(|| invalid(parts, &format!("{replicas} is not between 1 and {REPLICAS_MAX} copies")))
}

fn new_policy(parts: &Parts, create: PolicyCreate) -> Result<Policy, Status> {
    if !is_name(&create.name) {
        let text =
            format!("a policy is called by 1 to {POLICY_NAME_BYTES_MAX} letters, digits, '.', '_' or '-'");
        return Err(invalid(parts, &text));
    }
    let replicas = number(parts, create.replicas)?;
    let minimum = create.minimum.map(|minimum| number(parts, minimum)).transpose()?;
    let (minimum, required) = (minimum.unwrap_or(minimum_of(replicas)), labels(parts, &create.required)?);
    Ok(Policy { name: create.name, replicas, minimum, required })
}

fn changes(parts: &Parts, change: &PolicyChange) -> Result<PolicyChanges, Status> {
    let number = |given: Option<u32>| given.map(|given| number(parts, given)).transpose();
    let required = change.required.as_ref().map(|given| labels(parts, &given.labels)).transpose()?;
    Ok(PolicyChanges { replicas: number(change.replicas)?, minimum: number(change.minimum)?, required })
}

async fn step(parts: &Parts, name: &str, step: PolicyStep) -> Result<PolicyReply, Status> {
    let done = parts.sequencer.internal(Internal::Policy(step)).await;
    parts.nudge();
    let address = &parts.address;
    done.map_err(|error| match error {
        FsError::Exists => Status::already_exists(format!("master {address}: there is a policy {name} already")),
        FsError::Overloaded => {
            Status::resource_exhausted(format!("master {address}: there are {POLICIES_MAX} policies already"))
        }
        FsError::Busy => Status::failed_precondition(format!(
            "master {address}: files, directories or chunks have the policy {name}: give them another one with `cairn admin \
             policy set PATH NAME --recursive`; chunks follow, and so does what is deleted, see `cairn admin policy list`"
        )),
        FsError::InvalidArgument if name == "default" => {
            Status::invalid_argument(format!("master {address}: the default policy stays"))
        }
        FsError::InvalidArgument => {
            Status::invalid_argument(format!("master {address}: the minimum must be between 1 and the number of copies"))
        }
        other => to_status(parts, &other),
    })?;
    list(parts).await.map_err(|error| to_status(parts, &error))
}

/// Gives a file or directory the policy, and what is below it a part at a time.
async fn give(parts: &Parts, set: PolicySet, policy: PolicyId) -> Result<PolicyReply, FsError> {
    let mut open: Vec<PolicyPlace> = set.resume;
    let mut looked_at = 0;
    if open.is_empty() {
        let (inode, kind, _) = walk(parts, &set.path).await?;
        if !matches!(kind, NodeKind::Regular | NodeKind::Directory) {
            return Err(FsError::InvalidArgument);
        }
        parts.sequencer.internal(Internal::SetPolicy { inodes: vec![inode], policy }).await?;
        looked_at = 1;
        if set.recursive && kind == NodeKind::Directory {
            open.push(PolicyPlace { inode: inode.get(), after: 0 });
        }
    }
    let (mut entries, most) = (0, POLICY_ENTRIES_AT_ONCE);
    while entries < most || open.len() > POLICY_DIRECTORIES_OPEN_MAX {
        let Some(place) = open.pop() else { break };
        let inodes = below(parts, place, &mut open).await?;
        // An empty directory is some work as well.
        entries += inodes.len() + 1;
        looked_at += inodes.len() as u64;
        for inodes in inodes.chunks(POLICY_INODES_AT_ONCE) {
            parts.sequencer.internal(Internal::SetPolicy { inodes: inodes.to_vec(), policy }).await?;
        }
    }
    parts.nudge();
    Ok(PolicyReply { resume: open, looked_at, ..PolicyReply::default() })
}

/// Files and directories in the next page of a directory; the rest of it, and the directories, are left to be looked at.
async fn below(
    parts: &Parts,
    place: PolicyPlace,
    open: &mut Vec<PolicyPlace>,
) -> Result<Vec<InodeId>, FsError> {
    let limit = DIRECTORY_PAGE_ENTRIES_MAX.min(POLICY_ENTRIES_AT_ONCE) as u32;
    let inode = InodeId(place.inode);
    let question = QueryKind::ReadDir { inode, after: place.after, limit, with_attrs: false };
    let page = match ask(parts, question).await {
        Ok(Answer::Names(page)) => page,
        // Removed meanwhile.
        Err(FsError::NotFound | FsError::NotDirectory | FsError::Stale) => return Ok(Vec::new()),
        Err(error) => return Err(error),
        Ok(_) => return Err(FsError::Io("unexpected answer to a directory listing".to_owned())),
    };
    let entries = page.entries().map_err(|_| FsError::Io("a page of names makes no sense".to_owned()))?;
    if let (false, Some(last)) = (page.end, entries.last()) {
        open.push(PolicyPlace { inode: place.inode, after: last.cookie });
    }
    let directories = entries.iter().filter(|entry| entry.kind == NodeKind::Directory);
    open.extend(directories.map(|entry| PolicyPlace { inode: entry.inode.get(), after: 0 }));
    let may_have = |kind| matches!(kind, NodeKind::Regular | NodeKind::Directory);
    Ok(entries.into_iter().filter(|entry| may_have(entry.kind)).map(|entry| entry.inode).collect())
}
