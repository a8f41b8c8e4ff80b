//! How long clients wait for answers, by kind of operation and question.

use cairn_core::namespace::request::{OperationKind, QueryKind};
use cairn_env::metrics::{SpanCounts, Spans};
use std::collections::BTreeMap;
use std::time::Duration;

const OPERATIONS: [&str; 18] = [
    "create",
    "mkdir",
    "mknod",
    "symlink",
    "link",
    "unlink",
    "rmdir",
    "rename",
    "set_attr",
    "allocate",
    "set_xattr",
    "remove_xattr",
    "allocate_chunks",
    "lease_file",
    "commit",
    "replace_replicas",
    "release_chunks",
    "release_leases",
];
const QUESTIONS: [&str; 12] = [
    "lookup",
    "lookup_parent",
    "get_attr",
    "read_dir",
    "neighbours",
    "read_link",
    "get_xattr",
    "list_xattr",
    "map",
    "access",
    "stat_fs",
    "locate",
];

/// One histogram for each kind.
pub(crate) struct Latencies {
    operations: BTreeMap<&'static str, Spans>,
    questions: BTreeMap<&'static str, Spans>,
}

impl Default for Latencies {
    fn default() -> Self {
        let all = |names: &[&'static str]| names.iter().map(|&name| (name, Spans::default())).collect();
        Self { operations: all(&OPERATIONS), questions: all(&QUESTIONS) }
    }
}

impl Latencies {
    /// An operation of this name was answered, so long after it had been read from its connection.
    pub(crate) fn operation(&self, name: &'static str, took: Duration) {
        if let Some(spans) = self.operations.get(name) {
            spans.add(took);
        }
    }

    /// A question of this name was.
    pub(crate) fn question(&self, name: &'static str, took: Duration) {
        if let Some(spans) = self.questions.get(name) {
            spans.add(took);
        }
    }

    /// Name and histogram of every operation.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&'static str, SpanCounts)> {
        self.operations.iter().map(|(&name, spans)| (name, spans.counts()))
    }

    /// Name and histogram of every question.
    pub(crate) fn questions(&self) -> impl Iterator<Item = (&'static str, SpanCounts)> {
        self.questions.iter().map(|(&name, spans)| (name, spans.counts()))
    }
}

/// What an operation is called.
pub(crate) fn operation_name(kind: &OperationKind) -> &'static str {
    match kind {
        OperationKind::Create { .. } => "create",
        OperationKind::Mkdir { .. } => "mkdir",
        OperationKind::Mknod { .. } => "mknod",
        OperationKind::Symlink { .. } => "symlink",
        OperationKind::Link { .. } => "link",
        OperationKind::Unlink { .. } => "unlink",
        OperationKind::Rmdir { .. } => "rmdir",
        OperationKind::Rename { .. } => "rename",
        OperationKind::SetAttr { .. } => "set_attr",
        OperationKind::Allocate { .. } => "allocate",
        OperationKind::SetXattr { .. } => "set_xattr",
        OperationKind::RemoveXattr { .. } => "remove_xattr",
        OperationKind::AllocateChunks { .. } => "allocate_chunks",
        OperationKind::LeaseFile { .. } => "lease_file",
        OperationKind::Commit { .. } => "commit",
        OperationKind::ReplaceReplicas { .. } => "replace_replicas",
        OperationKind::ReleaseChunks { .. } => "release_chunks",
        OperationKind::ReleaseLeases { .. } => "release_leases",
    }
}

/// What a question is called.
pub(crate) fn question_name(kind: &QueryKind) -> &'static str {
    match kind {
        QueryKind::Lookup { .. } => "lookup",
        QueryKind::LookupParent { .. } => "lookup_parent",
        QueryKind::GetAttr { .. } => "get_attr",
        QueryKind::ReadDir { .. } => "read_dir",
        QueryKind::Neighbours { .. } => "neighbours",
        QueryKind::ReadLink { .. } => "read_link",
        QueryKind::GetXattr { .. } => "get_xattr",
        QueryKind::ListXattr { .. } => "list_xattr",
        QueryKind::Map { .. } => "map",
        QueryKind::Access { .. } => "access",
        QueryKind::StatFs => "stat_fs",
        QueryKind::Locate { .. } => "locate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::ids::InodeId;

    #[test]
    fn every_name_has_its_histogram() {
        let latencies = Latencies::default();
        latencies.question(question_name(&QueryKind::StatFs), Duration::from_millis(1));
        latencies
            .question(question_name(&QueryKind::GetAttr { inode: InodeId(1) }), Duration::from_millis(1));
        latencies.operation("rename", Duration::from_millis(1));
        latencies.operation("no such", Duration::from_millis(1));
        assert_eq!(latencies.operations().map(|(_, counts)| counts.count).sum::<u64>(), 1);
        let asked = latencies.questions().filter(|(_, counts)| counts.count == 1).map(|(name, _)| name);
        assert_eq!(asked.collect::<Vec<_>>(), ["get_attr", "stat_fs"]);
    }
}
