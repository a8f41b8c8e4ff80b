//! What `admin fsck` finds in the state of the leader, page by page.
//!
//! The whole state is examined on one thread over one snapshot; it stops when whoever asked is gone, or when the master stops.

use crate::parts::Parts;
use cairn_core::error::FsError;
use cairn_core::fsck::{self, Finding, Report};
use cairn_core::limits::ADMIN_FINDINGS_PER_PAGE;
use cairn_proto::v1::{FsckFinding, FsckReply, FsckSummary, FsckTable};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

/// Tells the thread, when it is dropped, that nobody waits any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Examines the state and sends what is found. The turn ends with the thread, not with the caller.
///
/// # Errors
/// This master does not lead, or its state cannot be read.
pub(crate) async fn send(
    parts: &Arc<Parts>,
    turn: OwnedSemaphorePermit,
    pages: &mpsc::Sender<Result<FsckReply, Status>>,
) -> Result<(), FsError> {
    let waiting = Waiting(Arc::default());
    let (gone, stopping) = (Arc::clone(&waiting.0), parts.stopping.clone());
    let examined = parts.reader.examine(move |rows| {
        let _turn = turn;
        fsck::check(rows, &|| !gone.load(Ordering::Relaxed) && !stopping.is_cancelled())
    });
    let Report { findings, looked } = examined.await?;
    for page in findings.list().chunks(ADMIN_FINDINGS_PER_PAGE) {
        let page = FsckReply { findings: page.iter().map(as_message).collect(), summary: None };
        pages.send(Ok(page)).await.map_err(|_| FsError::Stale)?;
    }
    let tables = looked.0.iter().map(|(table, rows)| FsckTable { table: (*table).to_owned(), rows: *rows });
    let summary = FsckSummary { findings: findings.total(), tables: tables.collect() };
    let last = FsckReply { findings: Vec::new(), summary: Some(summary) };
    pages.send(Ok(last)).await.map_err(|_| FsError::Stale)
}

fn as_message(finding: &Finding) -> FsckFinding {
    let rule = &finding.rule;
    FsckFinding {
        rule: rule.id.to_owned(),
        upholds: rule.upholds.to_owned(),
        says: rule.says.to_owned(),
        object: finding.object.clone(),
        wrong: finding.wrong.clone(),
        next: rule.next.to_owned(),
    }
}
