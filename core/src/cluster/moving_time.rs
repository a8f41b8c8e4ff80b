//! How long moves take: what a plan says before anything moves, from what bounds them. That is the limit an operator has set, what
//! each replica costs whatever its size, and what the disks of whoever gives and takes leave to moves at present. How far they
//! give way later nobody knows before: once replicas move, how fast they do says more.

use super::balance::Flow;
use super::pace::Haste;
use crate::ids::ServerId;
use crate::limits::{COPY_STREAM_BYTES, MOVE_EACH, MOVES_PER_SERVER_MAX, PACE_SHARE_UNBOUNDED};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a disk says of its copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCopies {
    /// What they may take, in thousandths of a stream that never pauses; zero: not told.
    pub share: u32,
    /// Bytes a second of such a stream; zero: not known.
    pub stream_bytes: u64,
}

impl DiskCopies {
    /// Bytes a second that moves get, if that is bounded. `typical`: the stream of a disk that does not know its own.
    fn moves(self, typical: u64) -> Option<u64> {
        let stream = if self.stream_bytes > 0 { self.stream_bytes } else { typical };
        match self.share {
            0 => None,
            PACE_SHARE_UNBOUNDED.. if self.stream_bytes == 0 => None,
            PACE_SHARE_UNBOUNDED.. => Some(stream.saturating_mul(MOVES_PER_SERVER_MAX as u64)),
            share => Some(stream.saturating_mul(share.into()) / 1000 / Haste::Move.times()),
        }
    }
}

/// Bytes a second that moves get of each server, of those where that is bounded.
pub fn move_rates(disks: &BTreeMap<ServerId, Vec<DiskCopies>>) -> BTreeMap<ServerId, u64> {
    let mut known: Vec<u64> = disks.values().flatten().map(|disk| disk.stream_bytes).collect();
    known.retain(|&stream| stream > 0);
    known.sort_unstable();
    let typical = known.get(known.len() / 2).copied().unwrap_or(COPY_STREAM_BYTES);
    let rate = |(&server, disks): (&ServerId, &Vec<DiskCopies>)| {
        let rates: Option<Vec<u64>> = disks.iter().map(|disk| disk.moves(typical)).collect();
        rates.filter(|rates| !rates.is_empty()).map(|rates| (server, rates.iter().sum::<u64>().max(1)))
    };
    disks.iter().filter_map(rate).collect()
}

/// What is to move.
#[derive(Clone, Copy, Debug)]
pub struct Moving<'a> {
    /// From where to where.
    pub flows: &'a [Flow],
    /// Mean of a replica.
    pub replica_bytes: u64,
    /// Bytes a second in all.
    pub limit_bytes: u64,
    /// What servers give to moves at present, where that is bounded ([`move_rates`]).
    pub rates: &'a BTreeMap<ServerId, u64>,
}

impl Moving<'_> {
    /// How long it takes.
    pub fn time(&self) -> Duration {
        let mut by_server = BTreeMap::<ServerId, u64>::new();
        for flow in self.flows {
            for server in [flow.from, flow.to] {
                *by_server.entry(server).or_default() += flow.bytes;
            }
        }
        let given = |(server, &bytes): (&ServerId, &u64)| {
            let rate = self.rates.get(server).map_or(Duration::ZERO, |&rate| at(bytes, rate));
            let replicas = bytes / self.replica_bytes.max(1);
            let turns = u32::try_from(replicas / MOVES_PER_SERVER_MAX as u64).unwrap_or(u32::MAX);
            rate.max(MOVE_EACH.saturating_mul(turns))
        };
        let slowest = by_server.iter().map(given).max().unwrap_or_default();
        let bytes = self.flows.iter().fold(0_u64, |sum, flow| sum.saturating_add(flow.bytes));
        slowest.max(at(bytes, self.limit_bytes))
    }
}

/// How long so many bytes take at so many a second.
pub fn at(bytes: u64, per_second: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(per_second.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Five give 60 MiB each to a sixth.
    fn flows() -> Vec<Flow> {
        (1..=5).map(|from| Flow { from: ServerId(from), to: ServerId(6), bytes: 60 * MIB }).collect()
    }

    fn seconds(limit: u64, disks: &[(u32, DiskCopies)]) -> f64 {
        let disks = disks.iter().map(|&(server, disk)| (ServerId(server), vec![disk])).collect();
        let (flows, rates) = (flows(), move_rates(&disks));
        let moving = Moving { flows: &flows, replica_bytes: 8 * MIB, limit_bytes: limit, rates: &rates };
        moving.time().as_secs_f64()
    }

    #[test]
    fn where_nobody_gives_way_the_limit_counts() {
        assert_eq!(seconds(30 * MIB, &[]), 10.0);
        let idle = DiskCopies { share: PACE_SHARE_UNBOUNDED, stream_bytes: 0 };
        assert_eq!(seconds(30 * MIB, &[(1, idle), (6, idle)]), 10.0);
        let slow = DiskCopies { stream_bytes: 5 * MIB, ..idle };
        assert_eq!(seconds(30 * MIB, &[(6, slow)]), 15.0, "a disk takes no more than it can");
    }

    #[test]
    fn whoever_gives_way_most_counts_and_moves_pay_double() {
        // 200 MiB/s, a tenth of it, half of that.
        let busy = DiskCopies { share: 100, stream_bytes: 200 * MIB };
        assert_eq!(seconds(300 * MIB, &[(1, busy)]), 6.0);
        assert_eq!(seconds(300 * MIB, &[(1, busy), (6, busy)]), 30.0, "all of it goes there");
        let young = DiskCopies { share: 100, stream_bytes: 0 };
        assert_eq!(seconds(300 * MIB, &[(1, busy), (6, young)]), 30.0, "it is taken to be like others");
        assert_eq!(seconds(10 * MIB, &[(6, busy)]), 30.0);
        assert_eq!(seconds(5 * MIB, &[(6, busy)]), 60.0, "the limit still bounds it");
    }

    #[test]
    fn small_replicas_take_their_time() {
        let (flows, rates) = (flows(), BTreeMap::new());
        let moving = Moving { flows: &flows, replica_bytes: MIB / 32, limit_bytes: 1 << 40, rates: &rates };
        assert_eq!(moving.time(), MOVE_EACH * 300 * 32 / MOVES_PER_SERVER_MAX as u32);
        assert_eq!(Moving { flows: &[], ..moving }.time(), Duration::ZERO);
    }
}
