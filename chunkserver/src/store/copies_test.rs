//! Portions of copies wait while the foreground of their disk suffers; what somebody waits for does not. In paused time.

use super::super::crash_model_test::{PART, tiny, world};
use super::super::{ChunkStore, DiskConfig};
use super::*;
use cairn_core::ids::NodeId;
use cairn_core::limits::{PACE_SHARE_START, PACE_SHARE_UNBOUNDED};
use cairn_core::time::Timestamp;
use cairn_env::Env;
use cairn_env::clock::RuntimeClock;
use cairn_env::disk_sim::SimDisk;
use std::path::Path;

const CHUNK: ChunkId = ChunkId(1);
const PORTION: Duration = Duration::from_millis(2);

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn open() -> ChunkStore {
    let clock = Arc::new(RuntimeClock::starting_at(Timestamp::default()));
    let env = Env { clock, ..world(&SimDisk::new(), 1) };
    let config = DiskConfig { path: Path::new("/d").to_owned(), capacity_bytes: None, reserve_bytes: 0 };
    ChunkStore::open_with(&env, None, NodeId::default(), &[config], tiny()).unwrap().0
}

/// An answer each 5 ms, which takes so long.
async fn foreground(store: &ChunkStore, takes: Duration, spans: u32) {
    for _ in 0..spans {
        tokio::time::sleep(Duration::from_millis(5)).await;
        store.answered(CHUNK, PART, ForegroundWork::SmallRead, takes);
    }
}

async fn copies(store: &ChunkStore, done: &AtomicU64) {
    loop {
        store.portion((CHUNK, PART), Some(Haste::Short), 1 << 20, tokio::time::sleep(PORTION)).await;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn portions_wait_while_the_foreground_suffers() {
    paused().block_on(async {
        let (store, done) = (open(), AtomicU64::new(0));
        let ten_seconds = Duration::from_secs(10);
        drop(tokio::time::timeout(ten_seconds, copies(&store, &done)).await);
        assert!(done.swap(0, Ordering::Relaxed) > 4000, "nobody is there");
        assert_eq!(store.disks()[0].copies.share, PACE_SHARE_UNBOUNDED);
        let reached =
            store.disks()[0].copies.stream_bytes as f64 * PORTION.as_secs_f64() / f64::from(1 << 20);
        assert!((0.5..=1.0).contains(&reached), "{reached} of what a stream moves");
        assert!(!store.is_sync_due(CHUNK, PART, 8 << 20));
        tokio::time::sleep(Duration::from_secs(2)).await;
        foreground(&store, Duration::from_millis(1), 2000).await;
        tokio::select! {
            () = copies(&store, &done) => {}
            () = foreground(&store, Duration::from_millis(5), 2000) => {}
        }
        let portions = done.load(Ordering::Relaxed);
        assert!((300..2000).contains(&portions), "{portions} in ten seconds");
        let told = store.disks()[0].copies;
        assert!(told.share <= PACE_SHARE_START && told.usual < Duration::from_millis(2), "{told:?}");
        assert!(store.is_sync_due(CHUNK, PART, 8 << 20));
        let before = tokio::time::Instant::now();
        store.portion((CHUNK, PART), None, 0, std::future::ready(())).await;
        assert_eq!(before.elapsed(), Duration::ZERO, "somebody waits for it");
    });
}

#[test]
fn a_portion_does_not_wait_for_ever() {
    paused().block_on(async {
        let store = open();
        foreground(&store, Duration::from_millis(1), 1000).await;
        store.portion((CHUNK, PART), None, 0, tokio::time::sleep(Duration::from_secs(60))).await;
        foreground(&store, Duration::from_millis(1), 20).await;
        let before = tokio::time::Instant::now();
        store.portion((CHUNK, PART), Some(Haste::Move), 0, std::future::ready(())).await;
        assert!(before.elapsed() <= PACE_WAIT_MAX + Duration::from_secs(1), "{:?}", before.elapsed());
    });
}
