//! How the sequencer waits for what its next turn begins with: awake while requests follow each other closely, asleep otherwise.

use super::handle::Request;
use super::jobs::Finished;
use super::owner::Sequencer;
use super::work::Loaded;
use cairn_core::limits::{LOOK_OUT_YIELD_MAX, SEQUENCER_REST_AFTER};
use cairn_core::time::Tick;
use raft::eraftpb::Message;

/// What a turn of the loop begins with.
pub(super) enum Event {
    Request(Request),
    Heard(Message),
    Loaded(Loaded),
    Finished(Finished),
    Tick,
    /// Every handle is gone.
    Deserted,
}

impl Sequencer {
    pub(super) async fn select(&mut self) -> Event {
        let idle_since = self.env.clock.now();
        if idle_since.since(self.rested) >= SEQUENCER_REST_AFTER {
            self.rested = idle_since;
            tokio::task::yield_now().await;
        }
        if let Some(event) = self.look_out(idle_since) {
            self.brisk = self.env.clock.now().since(idle_since) < self.patience;
            return event;
        }
        let asleep_since = self.env.clock.now();
        let event = self.sleep().await;
        let awake = self.env.clock.now();
        // Meanwhile they had it.
        if awake.since(asleep_since) >= SEQUENCER_REST_AFTER {
            self.rested = awake;
        }
        self.brisk = awake.since(idle_since) < self.patience;
        event
    }

    /// While requests follow each other closely it waits awake and reads them from the connections itself, as long as nobody else
    /// wants the core.
    fn look_out(&mut self, since: Tick) -> Option<Event> {
        let mut connections = None;
        while self.brisk && self.env.clock.now().since(since) < self.patience {
            if let Ok(message) = self.heard.try_recv() {
                return Some(Event::Heard(message));
            }
            if let Ok(loaded) = self.loaded.try_recv() {
                return Some(Event::Loaded(loaded));
            }
            if let Ok(request) = self.inbox.try_recv() {
                return Some(Event::Request(request));
            }
            connections.get_or_insert_with(|| self.env.busy_poll.watch()).poll();
            if self.others_want_the_core() {
                break;
            }
        }
        None
    }

    /// Lets them have it, if there are any.
    fn others_want_the_core(&self) -> bool {
        let before = self.env.clock.now();
        std::thread::yield_now();
        self.env.clock.now().since(before) > LOOK_OUT_YIELD_MAX
    }

    async fn sleep(&mut self) -> Event {
        let until = self.hand_in_at().map_or(self.next_tick, |at| at.min(self.next_tick));
        let wait = until.since(self.env.clock.now());
        tokio::select! {
            biased;
            Some(message) = self.heard.recv() => Event::Heard(message),
            Some(loaded) = self.loaded.recv() => Event::Loaded(loaded),
            Some(finished) = self.jobs.finished.recv() => Event::Finished(finished),
            request = self.inbox.recv() => request.map_or(Event::Deserted, Event::Request),
            () = tokio::time::sleep(wait) => Event::Tick,
        }
    }
}
