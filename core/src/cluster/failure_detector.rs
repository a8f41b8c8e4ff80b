//! Whether one chunk server may be counted on, as one master hears it: connections that begin and end, heartbeats, and what
//! clients say of it. Time is an argument.
//!
//! Silence makes it suspect, the end of its connection down, and enough of either dead. One that returns is alive at once, but
//! for one that comes and goes: it stays suspect until it has been there for a while without a break, a longer one each time.

use super::view::ServerHealth;
use crate::limits::{
    SERVER_DISTRUST, SERVER_DOUBTED, SERVER_DOWN, SERVER_LOSS_FORGOTTEN, SERVER_LOSSES_TOLERATED,
    SERVER_MISSED, SERVER_STEADY_MAX, SERVER_STEADY_MIN, SERVER_SUSPECT,
};
use crate::time::Tick;
use std::collections::VecDeque;
use std::time::Duration;

/// Losses remembered: more make no difference.
const LOSSES_MAX: usize = 16;

/// How this master itself has been listening.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// It has listened without a break since: silence before says nothing.
    pub since: Tick,
    /// Who is silent for so long is dead.
    pub dead_after: Duration,
}

/// One chunk server.
#[derive(Clone, Debug)]
pub struct Presence {
    /// When this master learned of it.
    known: Tick,
    heard: Option<Tick>,
    connected: bool,
    /// There without a break since.
    steady_since: Tick,
    distrusted_until: Tick,
    /// Clients and master have agreed to doubt it until then, whatever it says of itself.
    doubted_until: Tick,
    /// When it was lost of late, oldest first.
    losses: VecDeque<Tick>,
}

impl Presence {
    /// One that is not connected.
    pub fn known(now: Tick) -> Self {
        Self {
            known: now,
            heard: None,
            connected: false,
            steady_since: now,
            distrusted_until: Tick::default(),
            doubted_until: Tick::default(),
            losses: VecDeque::new(),
        }
    }

    /// It has connected, perhaps anew.
    pub fn connected(&mut self, now: Tick) {
        if self.connected {
            // Its former connection is still there: it was away without our noticing.
            self.lost(now);
        }
        self.connected = true;
        self.heard = Some(now);
        self.steady_since = now;
        self.distrusted_until = Tick::default();
    }

    /// Its connection has ended.
    pub fn disconnected(&mut self, now: Tick) {
        self.connected = false;
        self.lost(now);
    }

    /// A heartbeat.
    pub fn heard(&mut self, now: Tick, listener: Listener) {
        let last = self.heard.unwrap_or(self.known).max(listener.since);
        if now.since(last) > SERVER_SUSPECT {
            self.lost(last);
            self.steady_since = now;
        }
        self.heard = Some(now);
        self.distrusted_until = Tick::default();
    }

    /// A client could not reach it: it gets no new chunks until it is heard of again or its silence shows.
    pub fn distrusted(&mut self, now: Tick) {
        self.distrusted_until = now.after(SERVER_DISTRUST);
    }

    /// Several clients find it slow or cannot reach it, or one of them and the master itself.
    pub fn doubted(&mut self, now: Tick) {
        self.doubted_until = now.after(SERVER_DOUBTED);
    }

    /// Whether the master itself misses it.
    pub fn is_missed(&self, now: Tick, listener: Listener) -> bool {
        let last = self.heard.unwrap_or(self.known).max(listener.since);
        !self.connected || now.since(last) > SERVER_MISSED
    }

    /// How long it has been silent.
    pub fn silent(&self, now: Tick) -> Option<Duration> {
        self.heard.map(|heard| now.since(heard))
    }

    /// Whether it may be counted on.
    pub fn health(&self, now: Tick, listener: Listener) -> ServerHealth {
        let last = self.heard.unwrap_or(self.known);
        if now.since(last.max(listener.since)) > listener.dead_after {
            return ServerHealth::Dead;
        }
        let silent = now.since(last);
        if self.heard.is_none() || !self.connected || silent > SERVER_DOWN {
            return ServerHealth::Down;
        }
        let is_silent = silent > SERVER_SUSPECT || now < self.distrusted_until;
        if is_silent || now < self.doubted_until || self.is_unsteady(now) {
            return ServerHealth::Suspect;
        }
        ServerHealth::Alive
    }

    /// Whether it is heard of, and suspect only for its past or by hearsay: it may be used where there are too few others.
    pub fn is_usable(&self, now: Tick, listener: Listener) -> bool {
        let is_heard = self.silent(now).is_some_and(|silent| silent <= SERVER_SUSPECT);
        is_heard && self.health(now, listener).is_reachable() && now >= self.distrusted_until
    }

    fn is_unsteady(&self, now: Tick) -> bool {
        now.since(self.steady_since) < self.steady_needed(now)
    }

    /// For how long it must have been there without a break.
    fn steady_needed(&self, now: Tick) -> Duration {
        let is_recent = |loss: &&Tick| now.since(**loss) < SERVER_LOSS_FORGOTTEN;
        let losses = self.losses.iter().filter(is_recent).count();
        match losses.checked_sub(SERVER_LOSSES_TOLERATED + 1) {
            None => Duration::ZERO,
            Some(beyond) => SERVER_STEADY_MIN.saturating_mul(1 << beyond.min(16)).min(SERVER_STEADY_MAX),
        }
    }

    fn lost(&mut self, now: Tick) {
        if self.losses.len() == LOSSES_MAX {
            self.losses.pop_front();
        }
        self.losses.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LISTENER: Listener = Listener { since: Tick(Duration::ZERO), dead_after: Duration::from_secs(10) };

    fn at(seconds: f64) -> Tick {
        Tick(Duration::from_secs_f64(seconds))
    }

    /// Comes back and stays, with heartbeats, until it is alive; tells how long that took.
    fn time_to_trust(presence: &mut Presence, now: &mut Tick) -> Duration {
        presence.connected(*now);
        let begun = *now;
        while presence.health(*now, LISTENER) != ServerHealth::Alive {
            *now = now.after(SECOND / 4);
            presence.heard(*now, LISTENER);
        }
        now.since(begun)
    }

    #[test]
    fn one_that_returns_is_alive_at_once_and_one_that_comes_and_goes_later_each_time() {
        let (mut presence, mut now) = (Presence::known(at(0.0)), at(1.0));
        let mut spans = Vec::new();
        for _ in 0..12 {
            spans.push(time_to_trust(&mut presence, &mut now));
            now = now.after(SECOND / 10);
            presence.disconnected(now);
            assert_eq!(presence.health(now, LISTENER), ServerHealth::Down);
        }
        let tolerated = SERVER_LOSSES_TOLERATED + 1;
        assert!(spans[..tolerated].iter().all(Duration::is_zero), "{spans:?}");
        assert!(spans[tolerated] >= SERVER_STEADY_MIN);
        assert!(spans[tolerated..].windows(2).all(|pair| pair[1] > pair[0] || pair[1] >= SERVER_STEADY_MAX));
        assert!(spans.iter().all(|span| *span <= SERVER_STEADY_MAX + SECOND), "{spans:?}");
        now = now.after(SERVER_LOSS_FORGOTTEN);
        assert_eq!(time_to_trust(&mut presence, &mut now), Duration::ZERO, "it was steady for long");
    }

    #[test]
    fn gaps_between_heartbeats_are_losses_unless_nobody_listened() {
        for (listened, expected) in [(true, ServerHealth::Suspect), (false, ServerHealth::Alive)] {
            let mut presence = Presence::known(at(0.0));
            presence.connected(at(0.0));
            let mut now = at(0.0);
            for _ in 0..=SERVER_LOSSES_TOLERATED {
                now = now.after(SECOND * 2);
                let since = if listened { at(0.0) } else { now };
                presence.heard(now, Listener { since, ..LISTENER });
            }
            assert_eq!(presence.health(now, LISTENER), expected);
        }
    }

    #[test]
    fn what_clients_agree_on_outlasts_a_heartbeat() {
        let mut presence = Presence::known(at(0.0));
        presence.connected(at(1.0));
        assert!(!presence.is_missed(at(1.3), LISTENER) && presence.is_missed(at(1.7), LISTENER));
        presence.doubted(at(1.7));
        presence.heard(at(1.8), LISTENER);
        assert_eq!(presence.health(at(1.9), LISTENER), ServerHealth::Suspect);
        assert!(presence.is_usable(at(1.9), LISTENER));
        presence.heard(at(1.7).after(SERVER_DOUBTED), LISTENER);
        assert_eq!(presence.health(at(1.7).after(SERVER_DOUBTED), LISTENER), ServerHealth::Alive);
    }

    #[test]
    fn silence_distrust_and_death() {
        let mut presence = Presence::known(at(0.0));
        assert_eq!(presence.health(at(1.0), LISTENER), ServerHealth::Down, "never heard of");
        presence.connected(at(1.0));
        presence.distrusted(at(1.1));
        assert_eq!(presence.health(at(1.2), LISTENER), ServerHealth::Suspect);
        presence.heard(at(1.3), LISTENER);
        assert_eq!(presence.health(at(1.4), LISTENER), ServerHealth::Alive);
        assert_eq!(presence.health(at(2.4), LISTENER), ServerHealth::Suspect);
        assert_eq!(presence.health(at(11.2), LISTENER), ServerHealth::Suspect);
        assert_eq!(presence.health(at(11.4), LISTENER), ServerHealth::Dead);
        let paused = Listener { since: at(11.0), ..LISTENER };
        assert_eq!(presence.health(at(11.4), paused), ServerHealth::Down);
    }
}
