//! Disks that fail or turn slow under a running application, each alone: its server goes on with the others.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::fs::{Advice, fadvise};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const FILES: u64 = 120;
/// Far more than it takes: the figures are printed.
const PATIENCE: Duration = Duration::from_secs(60);

fn length(number: u64) -> usize {
    if number.is_multiple_of(12) { 5 * MIB + 123 } else { 40_000 + 100 * number as usize }
}

fn write_files(mount: &Path) {
    for number in 0..FILES {
        let mut file = File::create(mount.join(format!("f{number}"))).unwrap();
        file.write_all(&bytes(number, length(number))).unwrap();
        file.sync_all().unwrap();
    }
}

fn read_files(mount: &Path) {
    for number in 0..FILES {
        let read = fs::read(mount.join(format!("f{number}"))).unwrap();
        assert!(read == bytes(number, length(number)), "file {number}");
    }
}

/// (chunk, server, disk) of every current replica.
fn placement(cluster: &Cluster) -> BTreeSet<(u64, u64, String)> {
    let chunks = cluster.json(&["admin", "chunks", "/"]);
    let mut all = BTreeSet::new();
    for chunk in chunks.as_array().unwrap() {
        for replica in chunk["replicas"].as_array().unwrap() {
            if replica["state"] == "current" {
                let disk = replica["disk"].as_str().unwrap_or_default().to_owned();
                all.insert((chunk["chunk"].as_u64().unwrap(), replica["server"].as_u64().unwrap(), disk));
            }
        }
    }
    all
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{what}: after {:.1} s", begun.elapsed().as_secs_f64());
    begun.elapsed()
}

/// A row of `admin servers` for a disk, and the state of its server.
fn disk_row(cluster: &Cluster, server: &str, disk: u32) -> (serde_json::Value, String) {
    let path = cluster.root().join(server).join(format!("disk-{disk}")).display().to_string();
    let servers = cluster.json(&["admin", "servers"]);
    for server in servers.as_array().unwrap() {
        for row in server["disks"].as_array().unwrap() {
            if row["path"] == path.as_str() {
                return (row.clone(), server["state"].as_str().unwrap().to_owned());
            }
        }
    }
    panic!("{path} is not in {servers}");
}

fn is_sound(cluster: &Cluster) {
    let checked = cluster.try_cairn(&["admin", "fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Programs that write, sync and read, and accept no error.
struct Foreground {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<Vec<(Duration, Duration)>>>,
}

impl Foreground {
    fn start(mount: &Path, begun: Instant) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..2).map(|number| {
            let (stop, path) = (stop.clone(), mount.join(format!("log{number}")));
            std::thread::spawn(move || append(&path, &stop))
        });
        let readers = (0..4).map(|number| {
            let (stop, mount) = (stop.clone(), mount.to_owned());
            std::thread::spawn(move || read_at_random(&mount, number, begun, &stop))
        });
        Self { writers: writers.collect(), readers: readers.collect(), stop }
    }

    /// When each read began, and how long it took.
    fn finish(self) -> Vec<(Duration, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().for_each(|thread| thread.join().unwrap());
        self.readers.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

const PIECE: usize = 5000;

/// Appends and syncs; new files now and then, so that new chunks are placed.
fn append(path: &Path, stop: &AtomicBool) {
    let mut generation = 0;
    while !stop.load(Ordering::Relaxed) {
        let path = path.with_extension(generation.to_string());
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for number in 0..20 {
            file.write_all(&bytes(number, PIECE)).unwrap();
            file.sync_all().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let contents: Vec<u8> = (0..20).flat_map(|number| bytes(number, PIECE)).collect();
        assert!(fs::read(&path).unwrap() == contents, "{}", path.display());
        generation += 1;
    }
}

/// Reads pages that the kernel does not have.
fn read_at_random(mount: &Path, seed: u64, begun: Instant, stop: &AtomicBool) -> Vec<(Duration, Duration)> {
    let contents: Vec<_> = (0..FILES).map(|number| bytes(number, length(number))).collect();
    let files: Vec<_> =
        (0..FILES).map(|number| File::open(mount.join(format!("f{number}"))).unwrap()).collect();
    let (mut took, mut random) = (Vec::new(), seed + 1);
    let mut page = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = ((random >> 33) % FILES) as usize;
        let page_number = (random >> 20) as usize % (contents[number].len() / 4096);
        fadvise(&files[number], 0, None, Advice::DontNeed).unwrap();
        let started = Instant::now();
        files[number].read_exact_at(&mut page, page_number as u64 * 4096).unwrap();
        took.push((started - begun, started.elapsed()));
        assert!(page == contents[number][page_number * 4096..(page_number + 1) * 4096], "file {number}");
        std::thread::sleep(Duration::from_millis(1));
    }
    took
}

/// Prints how long the reads of a span took.
fn print_reads(what: &str, reads: &[(Duration, Duration)], from: Duration, to: Duration) {
    let within = reads.iter().filter(|(begun, _)| *begun >= from && *begun < to);
    let mut took: Vec<_> = within.map(|&(_, took)| took.as_secs_f64() * 1000.0).collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{what}: {} reads, median {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        took.len(),
        at(0.5),
        at(0.99),
        took.last().copied().unwrap_or_default()
    );
}

const SHAPE: ClusterOptions = ClusterOptions { masters: 1, chunkservers: 5, replicas: 3 };

#[test]
fn what_a_failed_disk_held_is_made_anew_and_nothing_else() {
    let cluster = Cluster::up_on_faulty_disks(SHAPE, 2);
    let mount = cluster.mount();
    write_files(&mount);
    let (victim, other) =
        (disk_row(&cluster, "chunkserver-1", 1).0, disk_row(&cluster, "chunkserver-1", 2).0);
    let (victim, other) = (victim["disk"].as_str().unwrap(), other["disk"].as_str().unwrap());
    let before = placement(&cluster);
    let on = |placed: &BTreeSet<(u64, u64, String)>, disk: &str| {
        placed.iter().filter(|(_, _, on)| on == disk).map(|(chunk, ..)| *chunk).collect::<BTreeSet<u64>>()
    };
    let held = on(&before, victim);
    assert!(!held.is_empty() && !on(&before, other).is_empty());

    let begun = Instant::now();
    let foreground = Foreground::start(&mount, begun);
    std::thread::sleep(Duration::from_secs(1));
    let failed_at = begun.elapsed();
    cluster.faults("chunkserver-1", 1).fail();
    wait_until("the disk shows as failed", || disk_row(&cluster, "chunkserver-1", 1).0["state"] == "failed");
    wait_until("what it held stands elsewhere", || {
        let now = placement(&cluster);
        on(&now, victim).is_empty()
            && held.iter().all(|chunk| now.iter().filter(|(other, ..)| other == chunk).count() == 3)
    });
    let after = placement(&cluster);
    assert_eq!(disk_row(&cluster, "chunkserver-1", 1).1, "alive", "its server goes on");
    assert!(on(&before, other).is_subset(&on(&after, other)), "its other disk keeps what it has");
    let untouched = |placed: &BTreeSet<(u64, u64, String)>| -> BTreeSet<_> {
        placed.iter().filter(|(chunk, _, disk)| !held.contains(chunk) && disk != victim).cloned().collect()
    };
    assert!(untouched(&before).is_subset(&untouched(&after)), "nothing else has moved");
    std::thread::sleep(Duration::from_secs(1));
    let reads = foreground.finish();
    print_reads("before", &reads, Duration::ZERO, failed_at);
    print_reads("first second", &reads, failed_at, failed_at + Duration::from_secs(1));
    print_reads("later", &reads, failed_at + Duration::from_secs(1), Duration::MAX);
    let status = cluster.json(&["admin", "status"]);
    assert!(status["warnings"].to_string().contains("disk"), "{status}");
    is_sound(&cluster);
    cluster.remount();
    read_files(&mount);
}

/// Chunks that a client may have been given ahead.
const POOLED: u64 = 64;

/// How many times slower.
const SLOWER: u32 = 100;

#[test]
fn a_disk_that_turns_slow_is_gone_around_and_used_again_when_it_is_quick() {
    let cluster = Cluster::up_on_faulty_disks(SHAPE, 2);
    let mount = cluster.mount();
    write_files(&mount);
    // What takes a while becomes usual.
    let begun = Instant::now();
    let foreground = Foreground::start(&mount, begun);
    std::thread::sleep(Duration::from_secs(4));
    let usual = disk_row(&cluster, "chunkserver-1", 1).0;
    let delay = Duration::from_micros(usual["read_us"].as_u64().unwrap().clamp(200, 1000)) * SLOWER;
    let slow = usual["disk"].as_str().unwrap();
    let slow_at = begun.elapsed();
    cluster.faults("chunkserver-1", 1).slow_down(delay);
    println!("a read of the disk takes {} us, from now on {delay:?} more", usual["read_us"]);
    wait_until("the disk shows as slow", || disk_row(&cluster, "chunkserver-1", 1).0["state"] == "slow");
    let newest = placement(&cluster).iter().map(|(chunk, ..)| *chunk).max().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let is_later = |chunk: u64| chunk > newest + POOLED;
    wait_until("chunks are made that nobody had ready", || {
        placement(&cluster).iter().filter(|(chunk, ..)| is_later(*chunk)).count() > 10
    });
    let quick_at = begun.elapsed();
    let status = cluster.json(&["admin", "status"]);
    assert!(status["warnings"].to_string().contains("slow"), "{status}");
    assert_eq!(status["servers_alive"], 5, "its server is not lost");
    let placed = placement(&cluster);
    let later = placed.iter().filter(|(chunk, ..)| is_later(*chunk)).count();
    let there = placed.iter().filter(|(chunk, _, disk)| is_later(*chunk) && disk == slow);
    println!("{later} new replicas");
    assert!(later > 0 && there.count() == 0, "new replicas go elsewhere");
    cluster.faults("chunkserver-1", 1).slow_down(Duration::ZERO);
    wait_until("the disk is as quick as before", || {
        disk_row(&cluster, "chunkserver-1", 1).0["state"] == "healthy"
    });
    let reads = foreground.finish();
    let second = Duration::from_secs(1);
    print_reads("before", &reads, second, slow_at);
    print_reads("first second", &reads, slow_at, slow_at + second);
    print_reads("while slow", &reads, slow_at + second, quick_at);
    print_reads("afterwards", &reads, quick_at, Duration::MAX);
    is_sound(&cluster);
    cluster.remount();
    read_files(&mount);
}
