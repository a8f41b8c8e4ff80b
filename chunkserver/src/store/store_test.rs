//! The store over the real disk: what a caller can rely on while nothing fails.

use super::*;
use bytes::Bytes;
use cairn_core::checksum::payload_crcs;
use cairn_core::ids::LeaseNumber;
use cairn_core::units::BLOCK_BYTES;
use std::path::Path;

fn config(path: &Path) -> DiskConfig {
    DiskConfig { path: path.to_owned(), capacity_bytes: None, reserve_bytes: 0 }
}

pub(super) fn request(chunk: u64, offset: u64, payload: Vec<u8>) -> WriteRequest {
    let sums = payload_crcs(ChunkId(chunk), offset, &payload);
    WriteRequest {
        chunk: ChunkId(chunk),
        part: PartId(0),
        version: ChunkVersion(1),
        lease: LeaseNumber(1),
        offset,
        payload: Bytes::from(payload),
        sums,
        create: true,
        sync: false,
        repair: false,
    }
}

fn open(path: &Path) -> ChunkStore {
    let (store, report) = ChunkStore::open(&Env::real(), None, NodeId::default(), &[config(path)]).unwrap();
    assert_eq!(report.disks[0].state, DiskState::Healthy, "{report:?}");
    store
}

async fn read_bytes(store: &ChunkStore, chunk: u64, offset: u64, length: usize) -> Vec<u8> {
    let blocks = store.read(ChunkId(chunk), PartId(0), ChunkVersion(1), offset, length as u32).await.unwrap();
    let at = (offset - blocks.offset) as usize;
    assert_eq!(blocks.sums, payload_crcs(ChunkId(chunk), blocks.offset, &blocks.payload));
    blocks.payload[at..at + length].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_reads_back_at_once_after_a_sync_and_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let large: Vec<u8> = (0..256 * 1024).map(|i| (i / 7) as u8).collect();
    store.write(request(1, 0, large.clone())).await.unwrap();
    store.write(request(1, 5000, vec![9; 100])).await.unwrap();
    store.write(WriteRequest { sync: true, ..request(2, 10, vec![3; 50]) }).await.unwrap();
    let mut expected = large;
    expected[5000..5100].fill(9);
    assert!(read_bytes(&store, 1, 0, 256 * 1024).await == expected);
    assert_eq!(read_bytes(&store, 2, 10, 50).await, vec![3; 50]);
    assert_eq!(read_bytes(&store, 2, 0, 10).await, vec![0; 10]);
    store.sync(ChunkId(1), PartId(0), ChunkVersion(1)).await.unwrap();
    drop(store);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let store = open(root.path());
    assert!(read_bytes(&store, 1, 0, 256 * 1024).await == expected);
    assert_eq!(read_bytes(&store, 2, 10, 50).await, vec![3; 50]);
    store.close().await;
    drop(store);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let store = open(root.path());
    assert!(read_bytes(&store, 1, 0, 256 * 1024).await == expected);
    assert_eq!(read_bytes(&store, 2, 10, 50).await, vec![3; 50]);
    let plain = cairn_env::disk::read_small(
        &*Env::real().disk,
        &root.path().join("chunks/01/0000000000000001.0"),
        1 << 30,
    )
    .unwrap();
    assert!(plain[..expected.len()] == expected, "ordinary tools read the data");
    assert_eq!(store.stat(ChunkId(1), PartId(0)).unwrap().durable_blocks, 64);
}

#[tokio::test]
async fn stale_versions_leases_and_terms_are_refused_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let (chunk, part) = (ChunkId(5), PartId(0));
    {
        let store = open(root.path());
        store.write(WriteRequest { lease: LeaseNumber(4), ..request(5, 0, vec![1; 4096]) }).await.unwrap();
        let old_lease =
            store.write(WriteRequest { lease: LeaseNumber(3), ..request(5, 0, vec![1; 10]) }).await;
        assert_eq!(old_lease, Err(StoreError::StaleLease { floor: LeaseNumber(4) }));
        store.sync(chunk, part, ChunkVersion(1)).await.unwrap();
        store.raise_version(chunk, part, ChunkVersion(1), ChunkVersion(3)).await.unwrap();
        store.raise_version(chunk, part, ChunkVersion(1), ChunkVersion(3)).await.unwrap();
        store.fence_term(Term(7)).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let store = open(root.path());
    let stale = StoreError::StaleVersion { stored: ChunkVersion(3) };
    assert_eq!(store.write(request(5, 0, vec![1; 10])).await, Err(stale.clone()));
    assert_eq!(store.sync(chunk, part, ChunkVersion(2)).await, Err(stale.clone()));
    assert_eq!(store.read(chunk, part, ChunkVersion(2), 0, 1).await, Err(stale));
    assert_eq!(store.read(chunk, part, ChunkVersion(4), 0, 1).await, Err(StoreError::NoSuchChunk));
    assert_eq!(store.fence_term(Term(6)).await, Err(StoreError::StaleTerm { highest: Term(7) }));
    let old_lease =
        WriteRequest { version: ChunkVersion(3), lease: LeaseNumber(3), ..request(5, 0, vec![1; 10]) };
    assert_eq!(store.write(old_lease).await, Err(StoreError::StaleLease { floor: LeaseNumber(4) }));
}

#[tokio::test]
async fn a_deleted_replica_is_gone_and_may_come_back_empty() {
    let root = tempfile::tempdir().unwrap();
    let (chunk, part) = (ChunkId(6), PartId(0));
    let store = open(root.path());
    store.write(request(6, 0, vec![1; 100_000])).await.unwrap();
    store.sync(chunk, part, ChunkVersion(1)).await.unwrap();
    let file = root.path().join("chunks/06/0000000000000006.0");
    let exists = || Env::real().disk.exists(&file).unwrap();
    assert!(exists());
    assert!(matches!(store.delete(chunk, part, ChunkVersion(0)).await, Err(StoreError::StaleVersion { .. })));
    store.delete(chunk, part, ChunkVersion(1)).await.unwrap();
    store.delete(chunk, part, ChunkVersion(1)).await.unwrap();
    assert!(!exists() && store.stat(chunk, part).is_none());
    store.write(request(6, 8192, vec![2; 10])).await.unwrap();
    assert_eq!(read_bytes(&store, 6, 0, 4096).await, vec![0; 4096]);
    assert_eq!(store.held(), vec![(chunk, ChunkVersion(1), part)]);
}

#[tokio::test]
async fn damage_on_the_way_and_senseless_requests_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let damaged = WriteRequest { payload: Bytes::from_static(&[1; 10]), ..request(1, 0, vec![2; 10]) };
    assert_eq!(store.write(damaged).await, Err(StoreError::PayloadCorrupt));
    let beyond = request(1, cairn_core::units::CHUNK_BYTES - 5, vec![2; 10]);
    assert!(matches!(store.write(beyond).await, Err(StoreError::BadRequest(_))));
    assert!(matches!(store.write(request(1, 0, vec![])).await, Err(StoreError::BadRequest(_))));
    let last = request(1, cairn_core::units::CHUNK_BYTES - 5, vec![2; 5]);
    store.write(WriteRequest { sync: true, ..last }).await.unwrap();
    let length = store.stat(ChunkId(1), PartId(0)).unwrap().length;
    assert_eq!(length, cairn_core::units::CHUNK_BYTES);
    assert!(matches!(
        store.read(ChunkId(1), PartId(0), ChunkVersion(1), length - BLOCK_BYTES, 5000).await,
        Err(StoreError::BadRequest(_))
    ));
}

#[tokio::test]
async fn a_disk_that_is_not_ours_fails_and_the_others_serve() {
    let root = tempfile::tempdir().unwrap();
    let (ours, others) = (root.path().join("ours"), root.path().join("others"));
    let node = |number| NodeId(uuid::Uuid::from_u128(number));
    drop(ChunkStore::open(&Env::real(), None, node(2), &[config(&others)]).unwrap());
    let disks = [config(&others), config(&ours)];
    let (store, report) = ChunkStore::open(&Env::real(), None, node(1), &disks).unwrap();
    assert_eq!(report.disks[0].state, DiskState::Failed);
    assert!(report.disks[0].detail.contains("belongs to chunk server"), "{}", report.disks[0].detail);
    assert_eq!(report.disks[1].state, DiskState::Healthy);
    for chunk in 0..20 {
        store.write(WriteRequest { sync: true, ..request(chunk, 0, vec![1; 10]) }).await.unwrap();
    }
    let stat = store.stat(ChunkId(3), PartId(0)).unwrap();
    assert_eq!(stat.disk, store.disks()[1].disk);
    let (again, busy) = ChunkStore::open(&Env::real(), None, node(1), &[config(&ours)]).unwrap();
    assert!(busy.disks[0].detail.contains("another process"), "{}", busy.disks[0].detail);
    assert_eq!(again.write(request(1, 0, vec![1; 10])).await, Err(StoreError::DiskFailed));
}

#[tokio::test]
async fn a_cluster_once_adopted_stays() {
    let root = tempfile::tempdir().unwrap();
    let cluster = |number| ClusterId(uuid::Uuid::from_u128(number));
    let store = open(root.path());
    store.adopt_cluster(cluster(7)).unwrap();
    store.adopt_cluster(cluster(7)).unwrap();
    assert!(
        matches!(store.adopt_cluster(cluster(8)), Err(StoreError::Io(text)) if text.contains("belongs to cluster"))
    );
    drop(store);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let (_, report) =
        ChunkStore::open(&Env::real(), Some(cluster(8)), NodeId::default(), &[config(root.path())]).unwrap();
    assert!(report.disks[0].detail.contains("belongs to cluster"), "{}", report.disks[0].detail);
    let (_, report) =
        ChunkStore::open(&Env::real(), Some(cluster(7)), NodeId::default(), &[config(root.path())]).unwrap();
    assert_eq!((report.cluster, report.disks[0].state), (Some(cluster(7)), DiskState::Healthy));
}

#[tokio::test]
async fn new_replicas_fill_disks_evenly() {
    let root = tempfile::tempdir().unwrap();
    let disks: Vec<DiskConfig> = (0..3)
        .map(|disk| DiskConfig {
            capacity_bytes: Some(64 << 20),
            ..config(&root.path().join(disk.to_string()))
        })
        .collect();
    let (store, _) = ChunkStore::open(&Env::real(), None, NodeId::default(), &disks).unwrap();
    for chunk in 0..120 {
        store.write(request(chunk, 0, vec![1; 200_000])).await.unwrap();
    }
    let replicas: Vec<u64> = store.disks().iter().map(|disk| disk.replicas).collect();
    assert!(replicas.iter().all(|count| (25..=55).contains(count)), "{replicas:?}");
}
