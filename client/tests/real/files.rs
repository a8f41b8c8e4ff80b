//! Files against a real cluster in the process.

use crate::cluster::{Cluster, READ_ONLY, READ_WRITE, create, name, pattern, root};
use bytes::Bytes;
use cairn_client::fs::{FileSystem, OpenFile, OpenFlags, SeekFor};
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::{AttrChanges, TimeSet};
use cairn_core::namespace::request::AllocateMode;
use cairn_core::time::Timestamp;
use futures::StreamExt;
use std::collections::HashSet;
use std::time::Duration;

fn resize(size: u64) -> AttrChanges {
    AttrChanges { size: Some(size), ..AttrChanges::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_file_is_seen_by_another_client_after_close() {
    let cluster = Cluster::start(3, 3).await;
    let (one, two) = (cluster.client().await, cluster.client().await);
    let file = create(&one, "a").await;
    assert_eq!(one.write(&file, 0, Bytes::from_static(b"hello")).await, Ok(5));
    assert_eq!(&one.read(&file, 0, 100).await.unwrap()[..], b"hello", "own unflushed bytes");
    assert_eq!(one.getattr(&root(), file.inode(), None).await.unwrap().size, 5);
    one.flush(&file).await.unwrap();
    one.release(&file).await;

    let attr = two.lookup(&root(), InodeId::ROOT, &name("a")).await.unwrap();
    assert_eq!(attr.size, 5);
    let seen = two.open(&root(), attr.inode, READ_ONLY).await.unwrap();
    assert_eq!(&two.read(&seen, 0, 100).await.unwrap()[..], b"hello");
    assert_eq!(&two.read(&seen, 1, 3).await.unwrap()[..], b"ell");
    assert!(two.read(&seen, 5, 3).await.unwrap().is_empty());
    one.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_comes_back_whole() {
    let cluster = Cluster::start(3, 2).await;
    let fs = cluster.client().await;
    let file = create(&fs, "big").await;
    let length = 150 << 20;
    for at in (0..length).step_by(1 << 20) {
        let data = pattern(at, 1 << 20, 1);
        assert_eq!(fs.write(&file, at, data.into()).await, Ok(1 << 20));
    }
    fs.flush(&file).await.unwrap();
    let other = cluster.client().await;
    let seen = other.open(&root(), file.inode(), READ_ONLY).await.unwrap();
    for at in (0..length).step_by(1 << 20) {
        let bytes = other.read(&seen, at, 1 << 20).await.unwrap();
        assert!(bytes[..] == pattern(at, 1 << 20, 1)[..], "at {at}");
    }
    assert!(other.read(&seen, length, 1).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_two_clients_all_survive() {
    let cluster = Cluster::start(2, 2).await;
    let flags = OpenFlags { append: true, ..READ_WRITE };
    let first = create(&cluster.client().await, "log").await;
    let inode = first.inode();
    let mut writers = Vec::new();
    for writer in 0..2u8 {
        let fs = cluster.client().await;
        writers.push(tokio::spawn(async move {
            let file = fs.open(&root(), inode, flags).await.unwrap();
            for line in 0..50u8 {
                let record = vec![writer * 100 + line; 100];
                assert_eq!(fs.write(&file, 0, record.into()).await, Ok(100));
                if line % 5 == 0 {
                    fs.fsync(&file).await.unwrap();
                }
            }
            fs.flush(&file).await.unwrap();
            fs.release(&file).await;
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let fs = cluster.client().await;
    let file = fs.open(&root(), inode, READ_ONLY).await.unwrap();
    let bytes = fs.read(&file, 0, 1 << 20).await.unwrap();
    assert_eq!(bytes.len(), 10_000);
    let records: HashSet<u8> = bytes
        .chunks(100)
        .map(|record| {
            assert!(record.iter().all(|byte| *byte == record[0]), "a record is in one piece");
            record[0]
        })
        .collect();
    assert_eq!(records.len(), 100, "every record is there once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_take_the_lease_from_each_other() {
    let cluster = Cluster::start(2, 2).await;
    let (one, two) = (cluster.client().await, cluster.client().await);
    let mine = create(&one, "shared").await;
    let yours = two.open(&root(), mine.inode(), READ_WRITE).await.unwrap();
    for round in 0..20u64 {
        let (fs, file) = if round % 2 == 0 { (&one, &mine) } else { (&two, &yours) };
        let data = pattern(round * 1000, 1000, 7);
        assert_eq!(fs.write(file, round * 1000, data.into()).await, Ok(1000));
    }
    one.fsync(&mine).await.unwrap();
    two.fsync(&yours).await.unwrap();
    for fs in [&one, &two] {
        let attr = fs.getattr(&root(), mine.inode(), None).await.unwrap();
        assert_eq!(attr.size, 20_000);
    }
    let again = one.open(&root(), mine.inode(), READ_ONLY).await.unwrap();
    assert!(one.read(&again, 0, 20_000).await.unwrap()[..] == pattern(0, 20_000, 7)[..]);
    assert!(two.read(&yours, 0, 20_000).await.unwrap()[..] == pattern(0, 20_000, 7)[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlinked_file_lives_until_it_is_closed() {
    let cluster = Cluster::start(1, 1).await;
    let (one, two) = (cluster.client().await, cluster.client().await);
    let file = create(&one, "gone").await;
    one.write(&file, 0, pattern(0, 10_000, 3).into()).await.unwrap();
    one.fsync(&file).await.unwrap();
    two.unlink(&root(), InodeId::ROOT, &name("gone")).await.unwrap();
    assert_eq!(two.lookup(&root(), InodeId::ROOT, &name("gone")).await, Err(FsError::NotFound));
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    one.write(&file, 10_000, pattern(10_000, 10_000, 3).into()).await.unwrap();
    one.fsync(&file).await.unwrap();
    assert!(one.read(&file, 0, 20_000).await.unwrap()[..] == pattern(0, 20_000, 3)[..]);
    assert_eq!(one.getattr(&root(), file.inode(), Some(&file)).await.unwrap().links, 0);
    one.release(&file).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_set_after_writing_stay() {
    let cluster = Cluster::start(1, 1).await;
    let fs = cluster.client().await;
    let file = create(&fs, "old").await;
    fs.write(&file, 0, Bytes::from_static(b"x")).await.unwrap();
    let then = Timestamp { seconds: 1_000_000_000, nanos: 5 };
    let changes = AttrChanges { mtime: Some(TimeSet::At(then)), ..AttrChanges::default() };
    fs.setattr(&root(), file.inode(), changes, Some(&file)).await.unwrap();
    fs.flush(&file).await.unwrap();
    fs.release(&file).await;
    assert_eq!(fs.getattr(&root(), file.inode(), None).await.unwrap().mtime, then);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_are_found_and_read_as_zeros() {
    let cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let file = create(&fs, "sparse").await;
    let far = 1u64 << 40;
    fs.write(&file, far, Bytes::from(vec![9; 4096])).await.unwrap();
    fs.write(&file, 8192, Bytes::from(vec![8; 4096])).await.unwrap();
    assert_eq!(fs.seek(&file, SeekFor::Data, 0).await, Ok(8192));
    assert_eq!(fs.seek(&file, SeekFor::Hole, 8192).await, Ok(12_288));
    assert_eq!(fs.seek(&file, SeekFor::Data, 12_288).await, Ok(far));
    assert_eq!(fs.seek(&file, SeekFor::Data, far + 4096).await, Err(FsError::NoSuchOffset));
    fs.flush(&file).await.unwrap();
    assert_eq!(&fs.read(&file, 8190, 4).await.unwrap()[..], &[0, 0, 8, 8]);
    fs.allocate(&root(), &file, AllocateMode::PunchHole, 8192, 2048).await.unwrap();
    assert_eq!(&fs.read(&file, 8192 + 2046, 4).await.unwrap()[..], &[0, 0, 8, 8]);
    let attr = fs.setattr(&root(), file.inode(), resize(10_000), Some(&file)).await.unwrap();
    assert_eq!(attr.size, 10_000);
    let attr = fs.setattr(&root(), file.inode(), resize(12_000), Some(&file)).await.unwrap();
    assert_eq!(attr.size, 12_000);
    assert!(fs.read(&file, 10_000, 5000).await.unwrap()[..] == [0; 2000][..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_kept_only_when_nobody_else_wrote() {
    let cluster = Cluster::start(1, 1).await;
    let (one, two) = (cluster.client().await, cluster.client().await);
    let file = create(&one, "cached").await;
    one.write(&file, 0, Bytes::from_static(b"first")).await.unwrap();
    one.flush(&file).await.unwrap();
    one.release(&file).await;
    let reopen = async |fs: &cairn_client::fs::FileSystem| {
        let attr = fs.lookup(&root(), InodeId::ROOT, &name("cached")).await.unwrap();
        fs.open(&root(), attr.inode, READ_WRITE).await.unwrap()
    };
    assert!(reopen(&one).await.keep_cache(), "only this client wrote");
    let theirs = reopen(&two).await;
    assert!(!theirs.keep_cache(), "never seen before");
    two.write(&theirs, 0, Bytes::from_static(b"other")).await.unwrap();
    two.flush(&theirs).await.unwrap();
    let mine = reopen(&one).await;
    assert!(!mine.keep_cache(), "another client wrote");
    assert_eq!(&one.read(&mine, 0, 9).await.unwrap()[..], b"other");
    assert!(reopen(&one).await.keep_cache(), "nothing since");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_directory_is_listed_completely() {
    let cluster = Cluster::start(1, 1).await;
    let fs = cluster.client().await;
    let directory = fs.mkdir(&root(), InodeId::ROOT, &name("many"), 0o755).await.unwrap().inode;
    let mut makers = Vec::new();
    for maker in 0..16 {
        let fs = fs.clone();
        makers.push(tokio::spawn(async move {
            for number in 0..125 {
                let name = name(&format!("{maker}-{number}"));
                let (_, file) = fs.create(&root(), directory, &name, 0o600, READ_WRITE).await.unwrap();
                fs.flush(&file).await.unwrap();
            }
        }));
    }
    for maker in makers {
        maker.await.unwrap();
    }
    let mut seen = HashSet::new();
    let mut after = 0;
    loop {
        let page = fs.read_dir(&root(), directory, after, 300, true).await.unwrap();
        for entry in &page.entries {
            assert!(entry.attr.is_some());
            assert!(seen.insert(entry.name.clone()), "no entry comes twice");
            after = entry.cookie;
        }
        if page.end {
            break;
        }
    }
    assert_eq!(seen.len(), 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn programs_that_take_turns_to_append_and_sync_never_lose_the_lease() {
    let cluster = Cluster::start(2, 2).await;
    let flags = OpenFlags { append: true, ..READ_WRITE };
    let inode = create(&cluster.client().await, "log").await.inode();
    let mut writers = Vec::new();
    for writer in 0..4u8 {
        let fs = cluster.client().await;
        writers.push(tokio::spawn(async move {
            let file = fs.open(&root(), inode, flags).await.unwrap();
            for line in 0..150 {
                // After the sync nothing is left to record when the lease is asked back.
                assert_eq!(fs.write(&file, 0, vec![writer; 100].into()).await, Ok(100), "{writer} {line}");
                assert_eq!(fs.fsync(&file).await, Ok(()), "{writer} {line}");
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_opened_anew_is_not_taken_for_its_closed_predecessor() {
    // With so many files in use, going through them takes a client long enough for one to be closed and opened meanwhile.
    const OTHERS: usize = 20_000;
    const FILES: usize = 400;
    let cluster = Cluster::start(2, 2).await;
    let (fs, other) = (cluster.client().await, cluster.client().await);
    let held: Vec<_> = futures::stream::iter(0..OTHERS)
        .map(|number| create_owned(&fs, format!("held-{number}")))
        .buffer_unordered(256)
        .collect()
        .await;
    let mut files = Vec::new();
    for number in 0..FILES {
        let file = create(&other, &format!("{number}")).await;
        files.push(file.inode());
        other.release(&file).await;
    }
    for (number, inode) in files.into_iter().enumerate() {
        let first = fs.open(&root(), inode, READ_ONLY).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        fs.release(&first).await;
        let second = fs.open(&root(), inode, READ_WRITE).await.unwrap();
        assert_eq!(fs.write(&second, 0, Bytes::from_static(b"unsynced")).await, Ok(8));
        tokio::time::sleep(Duration::from_millis(4)).await;
        let third = fs.open(&root(), inode, READ_ONLY).await.unwrap();
        assert_eq!(&fs.read(&third, 0, 100).await.unwrap()[..], b"unsynced", "{number}");
        fs.release(&third).await;
        fs.release(&second).await;
    }
    assert_eq!(held.len(), OTHERS);
}

async fn create_owned(fs: &FileSystem, text: String) -> OpenFile {
    create(fs, &text).await
}
