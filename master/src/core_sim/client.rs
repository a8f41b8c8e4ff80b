//! A client: one session after the other, the real cache, operations in slots that are asked again until they are answered.

use super::clock::HostClock;
use super::data::{Job, Reading};
use super::home::Home;
use super::world::World;
use cairn_core::caching::cache::{Cache, Ticket, UnderWay};
use cairn_core::ids::{InodeId, Sequence, SessionId, SlotId};
use cairn_core::namespace::request::{Credentials, Operation, OperationKind, Query, QueryKind};
use cairn_core::time::Tick;
use cairn_env::clock::Clock;
use std::collections::BTreeMap;
use std::time::Duration;

/// First number of a client's host.
pub(super) const CLIENTS_FROM: u64 = 201;
/// What is not answered for so long is asked of whoever leads then.
pub(super) const SILENCE: Duration = Duration::from_millis(1000);
/// How often a client looks around.
pub(super) const CLIENT_STEP: Duration = Duration::from_millis(100);

/// What an operation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The client's own directory, or something in it.
    Home,
    /// The directory that all use.
    Shared,
    /// The making of that directory.
    MakeShared,
    /// A file with bytes.
    Data,
}

/// An operation that is not answered.
pub(super) struct Pending {
    pub(super) operation: Operation,
    pub(super) purpose: Purpose,
    pub(super) under_way: UnderWay,
    /// Not asked again before: its answer was that it may succeed later.
    pub(super) not_before: Duration,
    pub(super) sent: bool,
}

/// A slot of the session.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) sequence: u64,
    pub(super) pending: Option<Pending>,
}

/// A question that is not answered.
pub(super) struct Asking {
    pub(super) query: Query,
    pub(super) ticket: Ticket,
    pub(super) asked_at: Duration,
    pub(super) of_home: bool,
    pub(super) until: Duration,
}

/// A client's host.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) clock: HostClock,
    /// Counts sessions.
    pub(super) life: u64,
    pub(super) paused_until: Duration,
    /// The stream that welcomed it.
    pub(super) conn: Option<u64>,
    /// Streams on which it has asked who leads.
    pub(super) hellos: Vec<u64>,
    pub(super) hello_at: Duration,
    pub(super) session: Option<(SessionId, [u8; 16])>,
    pub(super) heard_at: Duration,
    pub(super) renewed_at: Duration,
    pub(super) cache: Cache,
    pub(super) slots: [Slot; 3],
    pub(super) asking: BTreeMap<u64, Asking>,
    pub(super) asked: u64,
    pub(super) home: Home,
    /// Operations at home before the last listing was asked for.
    pub(super) home_sequence_listed: u64,
    pub(super) shared: Option<InodeId>,
    /// What is under way with a file.
    pub(super) job: Option<Job>,
    pub(super) reading: Option<Reading>,
}

/// Slots of its own directory's operations, of those in the directory that all use, and of its file's.
pub(super) const HOME_SLOT: usize = 0;
pub(super) const SHARED_SLOT: usize = 1;
pub(super) const DATA_SLOT: usize = 2;

impl Client {
    pub(super) fn new(id: u64, clock: HostClock) -> Self {
        Self {
            id,
            clock,
            life: 0,
            paused_until: Duration::ZERO,
            conn: None,
            hellos: Vec::new(),
            hello_at: Duration::ZERO,
            session: None,
            heard_at: Duration::ZERO,
            renewed_at: Duration::ZERO,
            cache: Cache::default(),
            slots: [Slot::default(), Slot::default(), Slot::default()],
            asking: BTreeMap::new(),
            asked: 0,
            home: Home::default(),
            home_sequence_listed: 0,
            shared: None,
            job: None,
            reading: None,
        }
    }

    pub(super) fn now(&self) -> Tick {
        self.clock.now()
    }

    /// Its process, or its session, is no more: everything begins anew. Returns what is left behind.
    pub(super) fn begin_anew(&mut self) -> Home {
        self.life += 1;
        (self.conn, self.session, self.shared) = (None, None, None);
        (self.job, self.reading) = (None, None);
        self.hellos.clear();
        self.cache = Cache::default();
        self.asking.clear();
        let mut home = std::mem::take(&mut self.home);
        let [slot, ..] = std::mem::take(&mut self.slots);
        home.doubt = slot.pending.filter(|pending| pending.sent).map(|pending| pending.operation.kind);
        home
    }

    /// Fills a free slot.
    pub(super) fn operate(&mut self, slot: usize, purpose: Purpose, kind: OperationKind) {
        let under_way = self.cache.begin(&kind);
        let slot = &mut self.slots[slot];
        slot.sequence += 1;
        let operation = Operation { credentials: Credentials::default(), kind };
        let not_before = Duration::ZERO;
        slot.pending = Some(Pending { operation, purpose, under_way, not_before, sent: false });
    }

    /// The identity of what stands in a slot.
    pub(super) fn asked_in(&self, slot: usize) -> Option<super::canon::Asked> {
        let (session, _) = self.session?;
        Some((session, SlotId(slot as u32), Sequence(self.slots[slot].sequence)))
    }
}

impl World {
    pub(super) fn client(&mut self, id: u64) -> &mut Client {
        &mut self.clients[(id - CLIENTS_FROM) as usize]
    }

    /// A client looks around.
    pub(super) fn client_step(&mut self, id: u64) {
        self.queue.push(self.now + CLIENT_STEP, super::world::Event::Client { client: id });
        let now = self.now;
        let client = self.client(id);
        if client.paused_until > now {
            return;
        }
        match client.conn {
            Some(_) if now.saturating_sub(client.heard_at) > SILENCE => {
                client.conn = None;
                client.hellos.clear();
                self.look_for_leader(id);
            }
            None if client.hellos.is_empty() || now.saturating_sub(client.hello_at) > SILENCE => {
                self.look_for_leader(id);
            }
            None => {}
            Some(conn) => {
                self.renew(id, conn);
                self.work(id);
                self.send_pending(id, conn, false);
            }
        }
    }

    /// Asks what stands in the slots; all of it on a new stream.
    pub(super) fn send_pending(&mut self, id: u64, conn: u64, anew: bool) {
        let now = self.now;
        for slot in 0..self.client(id).slots.len() {
            let client = self.client(id);
            let Some((session, slot_id, sequence)) = client.asked_in(slot) else { return };
            let Some(pending) = client.slots[slot].pending.as_mut() else { continue };
            if (pending.sent && !anew) || pending.not_before > now {
                continue;
            }
            pending.sent = true;
            let operation = pending.operation.clone();
            self.asked_for.insert((session, slot_id, sequence), operation.kind.clone());
            self.up(conn, super::said::ToMaster::Operate { slot: slot_id, sequence, operation });
        }
    }

    /// Asks a question on the present stream.
    pub(super) fn ask(&mut self, id: u64, kind: QueryKind, of_home: bool) {
        let (asked_at, until) = (self.now, self.now + SILENCE * 4);
        let client = self.client(id);
        let Some(conn) = client.conn else { return };
        client.asked += 1;
        let number = client.asked;
        let query = Query { credentials: Credentials::default(), kind };
        let ticket = client.cache.ticket();
        let asking = Asking { query: query.clone(), ticket, asked_at, of_home, until };
        client.asking.insert(number, asking);
        self.up(conn, super::said::ToMaster::Ask { id: number, query });
    }
}
