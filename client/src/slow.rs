//! Operations that took long, and where their time went: told to the master with the next renewal.
//!
//! An operation has a trail from its begin to its end; whatever waits notes on the trail of the operation that it runs in for whom it
//! waited. What goes on in the background (a write on its way to chunk servers) is an operation of its own.

use crate::figures::Count;
use cairn_core::ids::InodeId;
use cairn_core::limits::{SLOW_HOP_MIN, SLOW_HOPS_MAX, SLOW_OPERATION, SLOW_PER_RENEWAL_MAX};
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_proto::v1::{SlowHop, SlowHopKind, SlowOperation};
use futures::future::Either;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

tokio::task_local! {
    static TRAIL: Arc<Trail>;
}

/// What an operation has waited for so far.
#[derive(Default)]
struct Trail(Mutex<Vec<SlowHop>>);

impl Trail {
    fn hops(&self) -> MutexGuard<'_, Vec<SlowHop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits of one kind at one place add up.
    fn add(&self, kind: SlowHopKind, address: &str, took: Duration) {
        let mut hops = self.hops();
        let took_us = micros(took);
        let same = |hop: &SlowHop| hop.kind == i32::from(kind) && hop.address == address;
        match hops.iter().position(same) {
            Some(at) => hops[at].took_us += took_us,
            None if hops.len() < SLOW_HOPS_MAX => {
                hops.push(SlowHop { kind: kind.into(), address: address.to_owned(), took_us });
            }
            None => {}
        }
    }
}

/// What waits to be told; the oldest go when there are too many.
#[derive(Debug, Default)]
pub(crate) struct SlowOperations {
    ended: Mutex<VecDeque<(Tick, SlowOperation)>>,
    count: Count,
}

impl SlowOperations {
    /// Takes what is to be told.
    pub(crate) fn take(&self, now: Tick) -> Vec<SlowOperation> {
        let ended = std::mem::take(&mut *self.ended());
        let told = |(at, operation)| SlowOperation { ended_ago_us: micros(now.since(at)), ..operation };
        ended.into_iter().map(told).collect()
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    fn note(&self, now: Tick, operation: SlowOperation) {
        self.count.one_more();
        let mut ended = self.ended();
        if ended.len() == SLOW_PER_RENEWAL_MAX {
            ended.pop_front();
        }
        ended.push_back((now, operation));
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<(Tick, SlowOperation)>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation `what` on an inode (0: none in particular), which has its own trail from now on. Pinned by the caller: a future that is
/// passed on takes its room twice.
pub(crate) async fn operation<T>(
    env: &Env,
    slow: &SlowOperations,
    (what, inode): (&str, InodeId),
    work: Pin<&mut impl Future<Output = T>>,
) -> T {
    let (begun, trail) = (env.clock.now(), Arc::new(Trail::default()));
    let outcome = TRAIL.scope(trail.clone(), work).await;
    let now = env.clock.now();
    let took = now.since(begun);
    if took >= SLOW_OPERATION {
        let mut hops = std::mem::take(&mut *trail.hops());
        hops.sort_by_key(|hop| std::cmp::Reverse(hop.took_us));
        let (what, inode, took_us) = (what.to_owned(), inode.get(), micros(took));
        slow.note(now, SlowOperation { what, inode, took_us, ended_ago_us: 0, hops });
    }
    outcome
}

/// The same, unless it is a part of an operation that has a trail.
pub(crate) async fn part_or_operation<T>(
    env: &Env,
    slow: &SlowOperations,
    what: &str,
    work: Pin<&mut impl Future<Output = T>>,
) -> T {
    match TRAIL.try_with(|_| ()) {
        Ok(()) => work.await,
        Err(_) => operation(env, slow, (what, InodeId(0)), work).await,
    }
}

/// A part of an operation that another task may carry out: it keeps the trail.
pub(crate) fn carry<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    match TRAIL.try_with(Arc::clone) {
        Ok(trail) => Either::Left(TRAIL.scope(trail, work)),
        Err(_) => Either::Right(work),
    }
}

/// Something was waited for since then. Short waits are not noted.
pub(crate) fn waited(env: &Env, since: Tick, kind: SlowHopKind, address: &str) {
    waited_for(env.clock.now().since(since), kind, address);
}

/// The same for so long.
pub(crate) fn waited_for(took: Duration, kind: SlowHopKind, address: &str) {
    if took >= SLOW_HOP_MIN {
        // Without a trail nobody asks.
        let _ = TRAIL.try_with(|trail| trail.add(kind, address, took));
    }
}

/// Waits for `work`, and notes how long.
pub(crate) async fn hop<T>(env: &Env, kind: SlowHopKind, work: impl Future<Output = T>) -> T {
    let since = env.clock.now();
    let outcome = work.await;
    waited(env, since, kind, "");
    outcome
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    async fn slow_operation(slow: &SlowOperations, hops: u64) {
        let env = Env::real();
        let work = pin!(async {
            for number in 0..hops {
                let address = format!("host:{}", number % 20);
                waited_for(SLOW_HOP_MIN * (number as u32 + 1), SlowHopKind::HopChunkserver, &address);
            }
            waited_for(SLOW_HOP_MIN / 2, SlowHopKind::HopMaster, "short");
            tokio::time::sleep(SLOW_OPERATION).await;
        });
        operation(&env, slow, ("read", InodeId(7)), work).await;
    }

    #[tokio::test]
    async fn what_took_long_is_told_once_with_the_longest_wait_first() {
        let slow = SlowOperations::default();
        slow_operation(&slow, 40).await;
        operation(&Env::real(), &slow, ("quick", InodeId(7)), pin!(async {})).await;
        let told = slow.take(Env::real().clock.now());
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].what.as_str(), told[0].inode, told[0].hops.len()), ("read", 7, SLOW_HOPS_MAX));
        assert!(told[0].took_us >= micros(SLOW_OPERATION));
        assert!(told[0].hops.is_sorted_by(|before, after| before.took_us >= after.took_us));
        // Two waits at the same place are one hop.
        let last = format!("host:{}", SLOW_HOPS_MAX - 1);
        let both = micros(SLOW_HOP_MIN) * (2 * (SLOW_HOPS_MAX as u64 - 1) + 22);
        assert_eq!((told[0].hops[0].address.as_str(), told[0].hops[0].took_us), (last.as_str(), both));
        assert_eq!(slow.take(Env::real().clock.now()), []);
        assert_eq!(slow.count(), 1);
    }

    #[tokio::test]
    async fn a_part_carried_out_elsewhere_keeps_the_trail() {
        let (env, slow) = (Env::real(), SlowOperations::default());
        let work = pin!(async {
            let part = carry(async { waited_for(SLOW_OPERATION, SlowHopKind::HopStore, "") });
            tokio::spawn(part).await.unwrap();
            tokio::time::sleep(SLOW_OPERATION).await;
        });
        operation(&env, &slow, ("flush", InodeId(1)), work).await;
        assert_eq!(slow.take(env.clock.now())[0].hops[0].kind, i32::from(SlowHopKind::HopStore));
    }

    #[test]
    fn the_oldest_go_when_nobody_is_told() {
        let slow = SlowOperations::default();
        for took_us in 0..2 * SLOW_PER_RENEWAL_MAX as u64 {
            slow.note(Tick(Duration::from_secs(1)), SlowOperation { took_us, ..SlowOperation::default() });
        }
        let told = slow.take(Tick(Duration::from_secs(3)));
        assert_eq!((told.len(), told[0].took_us), (SLOW_PER_RENEWAL_MAX, SLOW_PER_RENEWAL_MAX as u64));
        assert_eq!(told[0].ended_ago_us, 2_000_000);
    }
}
