//! Random operations against arrays of bytes, with clean stops and write-backs in between.

use super::crash_model_test::{PART, open_tiny, runtime, write_all_back, write_request};
use super::scrub::scrub_all;
use super::*;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk_sim::SimDisk;
use cairn_env::disk_sim::choice::LoseAll;
use proptest::prelude::*;

/// Bytes of a chunk that the model uses: small and large writes, several pages of blocks.
const BYTES: usize = 300_000;
const CHUNKS: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Write {
        chunk: u64,
        offset: usize,
        length: usize,
        fill: u8,
        sync: bool,
    },
    Sync(u64),
    WriteBack,
    /// Stops cleanly, loses everything unsynced, starts again.
    Restart,
    Delete(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (
        0..CHUNKS,
        0..BYTES - 70_000,
        prop_oneof![1..5000usize, 32_000..70_000usize],
        any::<u8>(),
        any::<bool>(),
    )
        .prop_map(|(chunk, offset, length, fill, sync)| Step::Write {
            chunk,
            offset,
            length,
            fill,
            sync,
        });
    let step = prop_oneof![
        10 => write,
        2 => (0..CHUNKS).prop_map(Step::Sync),
        2 => Just(Step::WriteBack),
        1 => Just(Step::Restart),
        1 => (0..CHUNKS).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..25)
}

async fn check(store: &ChunkStore, model: &[Option<Vec<u8>>]) {
    for (chunk, model) in model.iter().enumerate() {
        let id = ChunkId(chunk as u64);
        let Some(model) = model else {
            assert!(store.stat(id, PART).is_none());
            continue;
        };
        for at in (0..BYTES).step_by(100_000) {
            let read = store.read(id, PART, ChunkVersion(1), at as u64, 100_000).await.unwrap();
            let skip = at % BLOCK_BYTES as usize;
            assert!(read.payload[skip..skip + 100_000] == model[at..at + 100_000], "chunk {chunk} from {at}");
        }
        let sums = store.block_sums(id, PART, ChunkVersion(1)).await.unwrap();
        for (block, sum) in sums.iter().enumerate().filter(|(_, sum)| sum.generation != 0) {
            let read = store.read(id, PART, ChunkVersion(1), block as u64 * BLOCK_BYTES, 1).await.unwrap();
            assert_eq!(read.sums, vec![sum.crc]);
        }
    }
    assert_eq!(scrub_all(store).await, []);
}

/// Writes, and makes room in the journal meanwhile when it is full: nobody else does without upkeep.
async fn write(store: &ChunkStore, request: WriteRequest) {
    let volume = store.shared.volumes().next().unwrap();
    let making_room = async {
        loop {
            volume.journal.flush_wanted.notified().await;
            write_all_back(store).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        written = store.write(request) => written.unwrap(),
        () = making_room => {}
    }
}

async fn run(steps: Vec<Step>) {
    let mut disk = SimDisk::new();
    let (mut store, _) = open_tiny(&disk, 1);
    let mut model: Vec<Option<Vec<u8>>> = vec![None; CHUNKS as usize];
    for step in steps {
        match step {
            Step::Write { chunk, offset, length, fill, sync } => {
                let payload: Vec<u8> = (0..length).map(|at| fill.wrapping_add(at as u8)).collect();
                write(&store, write_request(chunk, 1, offset as u64, &payload, sync)).await;
                let bytes = model[chunk as usize].get_or_insert_with(|| vec![0; BYTES]);
                bytes[offset..offset + length].copy_from_slice(&payload);
            }
            Step::Sync(chunk) => {
                let synced = store.sync(ChunkId(chunk), PART, ChunkVersion(1)).await;
                assert_eq!(synced.is_ok(), model[chunk as usize].is_some());
            }
            Step::WriteBack => write_all_back(&store).await.unwrap(),
            Step::Restart => {
                store.close().await;
                assert_eq!(
                    store.sync(ChunkId(0), PART, ChunkVersion(1)).await,
                    Err(StoreError::ShuttingDown)
                );
                disk = disk.crash_image_with(&mut LoseAll);
                store = open_tiny(&disk, 2).0;
            }
            Step::Delete(chunk) => {
                store.delete(ChunkId(chunk), PART, ChunkVersion(1)).await.unwrap();
                model[chunk as usize] = None;
            }
        }
        check(&store, &model).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_chunk_is_an_array_of_bytes(steps in steps()) {
        runtime().block_on(run(steps));
    }
}

#[test]
fn synced_blocks_are_written_again_and_again_in_a_small_journal() {
    let write =
        |at: usize| Step::Write { chunk: 0, offset: at % 2, length: 69_000, fill: at as u8, sync: true };
    runtime().block_on(run((0..24).map(write).collect()));
}
