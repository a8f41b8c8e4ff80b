//! One request kind, one room: the exhaustive matches.

use super::act::Act;
use super::answer::Answer;
use super::decide_commit::{Commit, commit};
use super::decide_rename::{End, rename};
use super::internal::Internal;
use super::machine::{Context, Outcome, Record, RecordKind, Rows, Stop};
use super::request::{Credentials, Operation, OperationKind, PermissionCheck, Query, QueryKind};
use super::{
    alignment, decide_allocate, decide_attrs, decide_capacity, decide_chunks, decide_create, decide_garbage,
    decide_lease, decide_link, decide_orphans, decide_policy, decide_rebalance, decide_replace,
    decide_servers, decide_sessions, decide_unlink, decide_xattr, query_attrs, query_map, query_names,
};
use crate::error::FsError;

pub(super) fn decide(rows: &dyn Rows, context: &Context<'_>, operation: &Operation) -> Result<Record, Stop> {
    let mut act = Act::new(rows, context, &operation.credentials);
    let answer = act_on(&mut act, &operation.kind)?;
    let kind = kind_of(&operation.kind);
    Ok(Record { kind, rows: act.into_rows()?, answer, outcome: Outcome::Nothing })
}

/// Decides one operation within `act`. `ReplaceReplicas` takes two calls and is not among them.
pub(crate) fn act_on(act: &mut Act<'_>, kind: &OperationKind) -> Result<Answer, Stop> {
    use OperationKind as Op;
    match kind {
        Op::Create { parent, name, mode, exclusive } => {
            decide_create::create(act, *parent, name, *mode, *exclusive)
        }
        Op::Mkdir { parent, name, mode } => decide_create::mkdir(act, *parent, name, *mode),
        Op::Mknod { parent, name, kind, mode, rdev } => {
            decide_create::mknod(act, *parent, name, *kind, *mode, *rdev)
        }
        Op::Symlink { parent, name, target } => decide_create::symlink(act, *parent, name, target),
        Op::Link { inode, new_parent, new_name } => decide_link::link(act, *inode, *new_parent, new_name),
        Op::Unlink { parent, name } => decide_unlink::unlink(act, *parent, name),
        Op::Rmdir { parent, name } => decide_unlink::rmdir(act, *parent, name),
        Op::Rename { parent, name, new_parent, new_name, mode } => {
            rename(act, End { parent: *parent, name }, End { parent: *new_parent, name: new_name }, *mode)
        }
        Op::SetAttr { inode, changes, via_handle } => {
            decide_attrs::set_attr(act, *inode, changes, *via_handle)
        }
        Op::Allocate { inode, mode, offset, length } => {
            decide_allocate::allocate(act, *inode, *mode, *offset, *length)
        }
        Op::SetXattr { inode, name, value, mode } => decide_xattr::set(act, *inode, name, value, *mode),
        Op::RemoveXattr { inode, name } => decide_xattr::remove(act, *inode, name),
        Op::AllocateChunks { inode, count } => decide_chunks::allocate_chunks(act, *inode, *count),
        Op::LeaseFile { inode, chunks } => decide_lease::lease_file(act, *inode, chunks),
        Op::Commit { inode, lease, extents, length, modified, release, changes } => {
            let (lease, length, modified, release) = (*lease, *length, *modified, *release);
            commit(act, *inode, &Commit { lease, extents, length, modified, release, changes })
        }
        Op::ReplaceReplicas { .. } => Err(FsError::Unsupported.into()),
        Op::ReleaseChunks { chunks } => decide_chunks::release_chunks(act, chunks),
        Op::ReleaseLeases { leases } => decide_lease::release_leases(act, leases),
    }
}

/// The tag of the record that an operation makes.
pub(crate) fn kind_of(kind: &OperationKind) -> RecordKind {
    match kind {
        OperationKind::Create { .. } => RecordKind::Create,
        OperationKind::Mkdir { .. } => RecordKind::Mkdir,
        OperationKind::Mknod { .. } => RecordKind::Mknod,
        OperationKind::Symlink { .. } => RecordKind::Symlink,
        OperationKind::Link { .. } => RecordKind::Link,
        OperationKind::Unlink { .. } => RecordKind::Unlink,
        OperationKind::Rmdir { .. } => RecordKind::Rmdir,
        OperationKind::Rename { .. } => RecordKind::Rename,
        OperationKind::SetAttr { .. } => RecordKind::SetAttr,
        OperationKind::Allocate { .. } => RecordKind::Allocate,
        OperationKind::SetXattr { .. } => RecordKind::SetXattr,
        OperationKind::RemoveXattr { .. } => RecordKind::RemoveXattr,
        OperationKind::AllocateChunks { .. } => RecordKind::AllocateChunks,
        OperationKind::LeaseFile { .. } => RecordKind::LeaseFile,
        OperationKind::Commit { .. } => RecordKind::Commit,
        OperationKind::ReplaceReplicas { .. } => RecordKind::ReplaceReplicas,
        OperationKind::ReleaseChunks { .. } => RecordKind::ReleaseChunks,
        OperationKind::ReleaseLeases { .. } => RecordKind::ReleaseLeases,
    }
}

pub(super) fn query(rows: &dyn Rows, context: &Context<'_>, query: &Query) -> Result<Answer, Stop> {
    use QueryKind as Ask;
    let act = &Act::new(rows, context, &query.credentials);
    match &query.kind {
        Ask::Lookup { parent, name } => query_names::lookup(act, *parent, name),
        Ask::LookupParent { inode } => query_names::lookup_parent(act, *inode),
        Ask::GetAttr { inode } => query_attrs::get_attr(act, *inode),
        Ask::ReadDir { inode, after, limit, with_attrs } => {
            query_names::read_dir(act, *inode, *after, *limit, *with_attrs)
        }
        Ask::Neighbours { parent, after, limit, with_maps } => {
            query_names::neighbours(act, *parent, after.as_ref(), *limit, *with_maps)
        }
        Ask::ReadLink { inode } => query_names::read_link(act, *inode),
        Ask::GetXattr { inode, name } => query_attrs::get_xattr(act, *inode, name),
        Ask::ListXattr { inode } => query_attrs::list_xattr(act, *inode),
        Ask::Map { inode, offset, length } => query_map::map(act, *inode, *offset, *length),
        Ask::Access { inode, mask } => query_attrs::access(act, *inode, *mask),
        Ask::StatFs => query_attrs::stat_fs(act),
        Ask::Locate { chunks } => query_map::locate(act, chunks),
    }
}

pub(super) fn decide_internal(
    rows: &dyn Rows,
    context: &Context<'_>,
    command: &Internal,
) -> Result<Record, Stop> {
    let master = Credentials { uid: 0, gid: 0, groups: Vec::new(), check: PermissionCheck::Master };
    let mut act = Act::new(rows, context, &master);
    let (kind, outcome) = command_on(&mut act, command)?;
    Ok(Record { kind, rows: act.into_rows()?, answer: Answer::Done, outcome })
}

fn command_on(act: &mut Act<'_>, command: &Internal) -> Result<(RecordKind, Outcome), Stop> {
    Ok(match command {
        Internal::Format { cluster, default_replicas, feature_level } => {
            decide_servers::format(act, *cluster, *default_replicas, *feature_level)?;
            (RecordKind::Format, Outcome::Nothing)
        }
        Internal::OpenSession { secret, node, description } => {
            let session = decide_sessions::open(act, *secret, *node, description)?;
            (RecordKind::OpenSession, Outcome::Session(session))
        }
        Internal::EndSession { session } => {
            (RecordKind::EndSession, Outcome::More(decide_sessions::end(act, *session)?))
        }
        Internal::RegisterServer { node, data_address, http_address, labels } => {
            let server = decide_servers::register(act, *node, (data_address, http_address), labels)?;
            (RecordKind::RegisterServer, Outcome::Server(server))
        }
        Internal::DrainServer { server, replicas } => {
            (RecordKind::DrainServer, done(decide_servers::drain(act, *server, *replicas)?))
        }
        Internal::DrainDisk { server, disk, replicas } => {
            (RecordKind::DrainDisk, done(decide_servers::drain_disk(act, *server, *disk, *replicas)?))
        }
        Internal::RemoveServer { server } => {
            (RecordKind::RemoveServer, Outcome::More(decide_servers::remove(act, *server)?))
        }
        Internal::Rebalance(step) => (RecordKind::Rebalance, done(decide_rebalance::step(act, *step)?)),
        Internal::ForgetDeletions { server, chunks } => {
            decide_servers::forget_deletions(act, *server, chunks)?;
            (RecordKind::ForgetDeletions, Outcome::Nothing)
        }
        Internal::DeleteStray { server, chunk, version } => {
            decide_servers::delete_stray(act, *server, *chunk, *version)?;
            (RecordKind::DeleteStray, Outcome::Nothing)
        }
        Internal::BeginRaise { chunk, from } => {
            let (to, servers) = decide_replace::begin_raise(act, *chunk, *from)?;
            (RecordKind::BeginRaise, Outcome::Raising { chunk: *chunk, from: *from, to, servers })
        }
        Internal::FinishReconcile { chunk, version, servers } => {
            decide_replace::finish_reconcile(act, *chunk, *version, servers)?;
            (RecordKind::FinishReconcile, Outcome::Nothing)
        }
        Internal::ReclaimOrphans { inodes } => {
            (RecordKind::ReclaimOrphans, Outcome::More(decide_orphans::reclaim(act, inodes)?))
        }
        Internal::TakeLease { inode, lease } => {
            if act
                .lease_of(*inode)?
                .is_some_and(|held| (held.session, held.lease) == (lease.session, lease.lease))
            {
                act.break_lease(*inode)?;
            }
            (RecordKind::TakeLease, Outcome::Nothing)
        }
        Internal::DropGarbage { data, from } => {
            (RecordKind::DropGarbage, Outcome::More(decide_garbage::drop_garbage(act, *data, *from)?))
        }
        Internal::NoteCapacity { total_bytes, used_bytes } => {
            decide_capacity::note(act, *total_bytes, *used_bytes)?;
            (RecordKind::NoteCapacity, Outcome::Nothing)
        }
        Internal::Policy(step) => (RecordKind::Policy, done(decide_policy::step(act, step)?)),
        Internal::SetPolicy { inodes, policy } => {
            (RecordKind::SetPolicy, done(decide_policy::set(act, inodes, *policy)?))
        }
        Internal::AlignChunks { chunks, walked } => {
            (RecordKind::AlignChunks, done(alignment::align(act, chunks, *walked)?))
        }
    })
}

fn done((): ()) -> Outcome {
    Outcome::Nothing
}
