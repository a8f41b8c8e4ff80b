//! The network: what is cut, lost, doubled and late.

use super::world::World;
use std::collections::BTreeSet;
use std::time::Duration;

/// The state of the network. Hosts are numbers: masters from 1, chunk servers from 101, clients from 201.
#[derive(Default)]
pub(super) struct Network {
    /// (from, to) that are cut; `u64::MAX` stands for everybody.
    pub(super) cut: BTreeSet<(u64, u64)>,
    /// One in so many messages is lost; 0: none.
    pub(super) loses: u64,
    /// One in so many messages between masters comes twice; 0: none.
    pub(super) doubles: u64,
    /// One in so many messages is late by up to `late`; 0: none.
    pub(super) delays: u64,
    pub(super) late: Duration,
}

impl Network {
    fn is_cut(&self, from: u64, to: u64) -> bool {
        !self.cut.is_empty()
            && (self.cut.contains(&(from, to))
                || self.cut.contains(&(from, u64::MAX))
                || self.cut.contains(&(u64::MAX, to)))
    }
}

impl World {
    /// When a message that leaves now arrives; `None`: never.
    pub(super) fn arrival(&mut self, from: u64, to: u64) -> Option<Duration> {
        if self.network.is_cut(from, to) {
            self.hit("messages on a cut link");
            return None;
        }
        if self.network.loses > 0 && self.chance(self.network.loses) {
            self.hit("messages lost");
            return None;
        }
        let mut micros = 150 + self.below(1500);
        if self.network.delays > 0 && self.chance(self.network.delays) {
            self.hit("messages late");
            micros += self.below(self.network.late.as_micros() as u64);
        }
        Some(self.now + Duration::from_micros(micros))
    }

    /// As [`World::arrival`], where a message may also come twice.
    pub(super) fn arrivals(&mut self, from: u64, to: u64) -> (Option<Duration>, Option<Duration>) {
        let first = self.arrival(from, to);
        let twice = first.is_some() && self.network.doubles > 0 && self.chance(self.network.doubles);
        let second = if twice { self.arrival(from, to) } else { None };
        if second.is_some() {
            self.hit("messages doubled");
        }
        (first, second)
    }
}
