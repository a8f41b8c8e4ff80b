//! What answers data-plane requests: one dispatch over the operations.

use crate::hops::Hops;
use crate::joined::Joined;
use crate::lanes::{LaneTurn, Lanes};
use crate::metrics::Metrics;
use crate::store::ChunkStore;
use crate::{read_path, write_path};
use cairn_core::cluster::pace::ForegroundWork;
use cairn_core::ids::NodeId;
use cairn_core::limits::SMALL_WRITE_BYTES_MAX;
use cairn_core::time::Tick;
use cairn_env::clock::Clock;
use cairn_proto::data_conn::{Closer, Handler, Lane, Request};
use cairn_proto::frame::{Frame, Op, Status, flags};
use cairn_proto::hello::{judge, node_of, refused};
use cairn_proto::v1::{Hello, Refused, RefusedReason, Role};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// The data plane of one server.
pub(crate) struct DataService {
    store: ChunkStore,
    hops: Arc<Hops>,
    lanes: Lanes,
    joined: Arc<Joined>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// One connection.
pub(crate) struct Session {
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    _turn: Option<LaneTurn>,
}

impl DataService {
    pub(crate) fn new(
        store: ChunkStore,
        hops: Arc<Hops>,
        joined: Arc<Joined>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, hops, lanes: Lanes::default(), joined, clock, metrics }
    }

    pub(crate) fn store(&self) -> &ChunkStore {
        &self.store
    }

    pub(crate) fn hops(&self) -> &Hops {
        &self.hops
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn answer(&self, request: Request<Session>, started: Tick) -> Frame {
        let header = &request.frame.header;
        if self.gave_up(&request, started) {
            self.metrics.expired();
            return Frame::bare(header.reply(Status::Overloaded));
        }
        let reply = match header.op {
            Op::Write => write_path::write(self, &request, started).await,
            Op::Sync => write_path::sync(self, &request, started).await,
            Op::Read => read_path::read(self, &request, started).await,
            Op::BlockSums => read_path::block_sums(self, &request).await,
            Op::Stat => read_path::stat(self, &request),
            Op::Hello | Op::Ping => Frame::bare(header.reply(Status::BadRequest)),
        };
        let took = self.clock.now().since(started);
        self.metrics.answered(header.op, reply.header.status, took);
        if let Some(work) = foreground_work(&request.frame).filter(|_| reply.header.status == Status::Ok) {
            self.store.answered(header.chunk, header.part, work, took);
        }
        reply
    }

    /// Whether nobody waits for the answer any more, so that the work is not begun.
    fn gave_up(&self, request: &Request<Session>, started: Tick) -> bool {
        let deadline = Duration::from_millis(u64::from(request.frame.header.deadline_ms));
        request.abandoned() || (!deadline.is_zero() && self.clock.now().since(started) >= deadline)
    }
}

/// What programs wait for; nothing that other chunk servers do of themselves.
fn foreground_work(frame: &Frame) -> Option<ForegroundWork> {
    let header = &frame.header;
    if header.flags & flags::REPAIR != 0 {
        return None;
    }
    Some(match header.op {
        Op::Read if header.length as usize <= SMALL_WRITE_BYTES_MAX => ForegroundWork::SmallRead,
        Op::Read => ForegroundWork::LargeRead,
        Op::Write if header.flags & flags::SYNC != 0 => ForegroundWork::Sync,
        Op::Write if frame.payload.len() <= SMALL_WRITE_BYTES_MAX => ForegroundWork::SmallWrite,
        Op::Write => ForegroundWork::LargeWrite,
        Op::Sync => ForegroundWork::Sync,
        Op::Hello | Op::Ping | Op::BlockSums | Op::Stat => return None,
    })
}

impl Handler for DataService {
    type Session = Session;

    async fn hello(&self, theirs: Hello, lane: Lane, closer: Closer) -> Result<(Hello, Session), Refused> {
        if self.joined.cluster().is_none() {
            return Err(refused(
                RefusedReason::RefusedOverloaded,
                "this chunkserver has joined no cluster yet: check that a master listed under `masters` in its \
                 configuration runs and can be reached"
                    .to_owned(),
            ));
        }
        let ours = self.joined.hello();
        judge(&ours, &theirs)?;
        let node = node_of(&theirs);
        let turn = self.lanes.take(node, lane, closer).await;
        Ok((ours, Session { node, role: theirs.role(), _turn: turn }))
    }

    fn handle(self: Arc<Self>, request: Request<Session>) -> BoxFuture<'static, Frame> {
        let started = self.clock.now();
        Box::pin(async move { self.answer(request, started).await })
    }
}
