//! Chunk servers that die for good: what they held is made anew elsewhere, while applications go on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_core::limits::LEASE_RECALL;
use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// A server is dead after ten seconds; the rest is copying.
const REPAIRED: Duration = Duration::from_secs(90);

/// Servers with a current replica, of every chunk.
fn placement(cluster: &Cluster) -> Vec<Vec<u64>> {
    let chunks = cluster.json(&["admin", "chunks", "/"]);
    let servers = |chunk: &serde_json::Value| {
        let replicas = chunk["replicas"].as_array().unwrap().iter();
        let current = replicas.filter(|replica| replica["state"] == "current");
        current.map(|replica| replica["server"].as_u64().unwrap()).collect()
    };
    chunks.as_array().unwrap().iter().map(servers).collect()
}

/// Waits until every chunk has `copies` current replicas.
fn wait_until_whole(cluster: &Cluster, copies: usize) {
    let begun = Instant::now();
    loop {
        let placement = placement(cluster);
        let short = placement.iter().filter(|servers| servers.len() != copies).count();
        if short == 0 {
            println!("{} chunks are whole after {:.1} s", placement.len(), begun.elapsed().as_secs_f64());
            return;
        }
        assert!(begun.elapsed() < REPAIRED, "{short} of {} chunks are not whole", placement.len());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn length(number: u64) -> usize {
    if number.is_multiple_of(16) { 9 * MIB + 123 } else { 30_000 + 100 * number as usize }
}

fn write_files(mount: &Path, count: u64) {
    for number in 0..count {
        let length = length(number);
        let mut file = File::create(mount.join(format!("f{number}"))).unwrap();
        file.write_all(&bytes(number, length)).unwrap();
        file.sync_all().unwrap();
    }
    // All zeros: a replica without it reads the same, and must be made all the same.
    fs::write(mount.join("zeros"), vec![0; 3 * MIB]).unwrap();
}

fn read_file(mount: &Path, number: u64) {
    let read = fs::read(mount.join(format!("f{number}"))).unwrap();
    assert!(read == bytes(number, length(number)), "file {number}");
}

fn read_zeros(mount: &Path) {
    assert!(fs::read(mount.join("zeros")).unwrap() == vec![0; 3 * MIB]);
}

fn read_files(mount: &Path, count: u64) {
    (0..count).for_each(|number| read_file(mount, number));
    read_zeros(mount);
}

/// A program that appends and syncs, and knows what it wrote.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

const PIECE: usize = 5000;

impl Writer {
    fn start(path: &Path) -> Self {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut written = 0;
            while !stopping.load(Ordering::Relaxed) {
                file.write_all(&bytes(written as u64, PIECE)).unwrap();
                file.sync_all().unwrap();
                written += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            written
        });
        Self { stop, thread }
    }

    fn finish(self, path: &Path) {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.thread.join().unwrap();
        let contents: Vec<u8> = (0..written).flat_map(|number| bytes(number as u64, PIECE)).collect();
        println!("{written} appends");
        assert!(fs::read(path).unwrap() == contents);
    }
}

fn is_sound(cluster: &Cluster) {
    let checked = cluster.try_cairn(&["admin", "fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn what_a_dead_server_held_is_made_anew_elsewhere() {
    let shape = ClusterOptions { masters: 3, chunkservers: 5, replicas: 3 };
    let cluster = Cluster::up(shape);
    let mount = cluster.mount();
    write_files(&mount, 400);
    let log = mount.join("log");
    let writer = Writer::start(&log);
    cluster.kill("chunkserver-1");
    // The next leader finds what is left to do.
    while cluster.json(&["admin", "status"])["repairs_under_way"] == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.kill(&cluster.leader());
    wait_until_whole(&cluster, 3);
    writer.finish(&log);
    is_sound(&cluster);

    // Nothing stands on the dead one alone, nor on any two of the others.
    cluster.kill("chunkserver-2");
    cluster.kill("chunkserver-3");
    cluster.remount();
    read_files(&mount, 400);

    // What comes back is known to be old.
    for name in ["chunkserver-1", "chunkserver-2", "chunkserver-3"] {
        cluster.start(name);
    }
    wait_until_whole(&cluster, 3);
    let deadline = Instant::now() + REPAIRED;
    let counted = |cluster: &Cluster| placement(cluster).iter().map(Vec::len).sum::<usize>();
    let stored = |cluster: &Cluster| {
        (1..=5).map(|server| cluster.replica_files(&format!("chunkserver-{server}")).len()).sum::<usize>()
    };
    while stored(&cluster) > counted(&cluster) + 3 * 64 {
        assert!(Instant::now() < deadline, "{} files for {} replicas", stored(&cluster), counted(&cluster));
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.remount();
    read_files(&mount, 400);
    is_sound(&cluster);
}

#[test]
fn what_was_written_with_a_server_away_gets_its_copies_when_it_is_back() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    let mount = cluster.mount();
    let log = mount.join("log");
    let writer = Writer::start(&log);
    std::thread::sleep(Duration::from_millis(300));
    cluster.kill("chunkserver-2");
    write_files(&mount, 20);
    let short = placement(&cluster).iter().filter(|servers| servers.len() < 3).count();
    assert!(short >= 20, "only {short} chunks are short of a copy");
    cluster.start("chunkserver-2");
    wait_until_whole(&cluster, 3);
    writer.finish(&log);
    // With caches empty, and only what was away left.
    cluster.remount();
    cluster.kill("chunkserver-1");
    cluster.kill("chunkserver-3");
    read_files(&mount, 20);
    cluster.start("chunkserver-1");
    cluster.start("chunkserver-3");
    is_sound(&cluster);
}

/// Flips a bit in each replica of a server, which is stopped for it.
fn rot(cluster: &Cluster, name: &str) -> u64 {
    cluster.stop(name);
    let damaged = cluster.flip_byte_of_replicas(name, 5000);
    cluster.start(name);
    damaged
}

fn signal(cluster: &Cluster, name: &str, signal: Signal) {
    let pid = cluster.process(name).pid.and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

/// With as many servers as replicas there is no other place for them.
#[test]
fn damaged_replicas_are_made_anew_where_they_stand() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    let mount = cluster.mount();
    write_files(&mount, 16);
    cluster.stop("mount");
    let damaged = rot(&cluster, "chunkserver-1");
    assert!(damaged >= 17, "every file has a replica there");
    cluster.start("mount");
    // While the others are frozen every file is looked for on the damaged server.
    let others = ["chunkserver-2", "chunkserver-3"];
    others.iter().for_each(|name| signal(&cluster, name, Signal::STOP));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            others.iter().for_each(|name| signal(&cluster, name, Signal::CONT));
        });
        for number in 0..16 {
            let mount = &mount;
            scope.spawn(move || read_file(mount, number));
        }
        scope.spawn(|| read_zeros(&mount));
    });
    let begun = Instant::now();
    let count = |key: &str| cluster.json(&["admin", "status"])[key].as_u64().unwrap();
    while count("corrupt_blocks_found") < 17 || count("corrupt_replicas") > 0 {
        assert!(begun.elapsed() < REPAIRED, "{}", cluster.json(&["admin", "status"]));
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{damaged} damaged replicas are healed after {:.1} s", begun.elapsed().as_secs_f64());
    wait_until_whole(&cluster, 3);
    is_sound(&cluster);
    cluster.remount();
    cluster.kill("chunkserver-2");
    cluster.kill("chunkserver-3");
    read_files(&mount, 16);
}

#[test]
fn a_read_waits_for_a_good_replica_that_is_away() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 2, replicas: 2 });
    write_files(&cluster.mount(), 2);
    assert!(rot(&cluster, "chunkserver-1") > 0);
    cluster.kill("chunkserver-2");
    let begun = Instant::now();
    while cluster.json(&["admin", "status"])["servers_alive"] != 1 {
        assert!(begun.elapsed() < REPAIRED);
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.remount();
    let mount = cluster.mount();
    let reader = std::thread::spawn(move || read_file(&mount, 1));
    std::thread::sleep(Duration::from_secs(2));
    assert!(!reader.is_finished(), "what is damaged here is only away there");
    cluster.start("chunkserver-2");
    reader.join().unwrap();
}

/// A server that does not run has an empty disk in the place of the one with its largest replica.
fn replace_disk(cluster: &Cluster, server: &str) {
    let files = cluster.replica_files(server).into_iter();
    let victim = files.max_by_key(|file| fs::metadata(file).unwrap().blocks()).unwrap();
    let mut disks = cluster.process(server).data_dirs.into_iter();
    let disk = disks.find(|disk| victim.starts_with(disk)).unwrap();
    for entry in fs::read_dir(disk).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

#[test]
fn a_replica_that_was_lost_is_not_begun_anew_by_its_writer() {
    let options = ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 };
    let cluster = Cluster::up_on_faulty_disks(options, 2);
    let file = OpenOptions::new().create_new(true).write(true).open(cluster.mount().join("f")).unwrap();
    file.write_all_at(&bytes(1, MIB), 0).unwrap();
    file.sync_all().unwrap();
    cluster.stop("chunkserver-1");
    replace_disk(&cluster, "chunkserver-1");
    cluster.start("chunkserver-1");
    file.write_all_at(&bytes(2, MIB), MIB as u64).unwrap();
    file.sync_all().unwrap();
    drop(file);
    wait_until_whole(&cluster, 3);
    cluster.kill("chunkserver-2");
    cluster.kill("chunkserver-3");
    let read = cluster.try_cairn(&["cat", "/f"]).stdout;
    assert!(read == [bytes(1, MIB), bytes(2, MIB)].concat(), "{} bytes", read.len());
}

const SERVERS: [&str; 3] = ["chunkserver-1", "chunkserver-2", "chunkserver-3"];

/// A mount is killed at its work, and then all servers, so that all have something that none has made durable; each knows when it
/// comes back that it has lost it. Some come back without their disk.
fn writer_gone_with_its_servers(without_disk: &[&str]) -> (Cluster, PathBuf) {
    let options = ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 };
    let cluster = Cluster::up_on_faulty_disks(options, 2);
    let path = cluster.mount().join("f");
    let file = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
    file.write_all_at(&bytes(1, MIB), 0).unwrap();
    file.sync_all().unwrap();
    let dying = std::thread::spawn(move || {
        let part = bytes(2, MIB);
        (1..40u64).cycle().find(|at| file.write_all_at(&part, at * MIB as u64).is_err())
    });
    std::thread::sleep(Duration::from_millis(500));
    cluster.kill("mount");
    dying.join().unwrap();
    SERVERS.iter().for_each(|server| cluster.kill(server));
    without_disk.iter().for_each(|server| replace_disk(&cluster, server));
    (cluster, path)
}

/// Writes at the end of the file: the lease is asked for before it is known which chunk will be needed.
fn goes_on(path: PathBuf) {
    let writer = std::thread::spawn(move || {
        let mut file = OpenOptions::new().append(true).read(true).open(&path).unwrap();
        file.write_all(&bytes(3, MIB)).unwrap();
        file.sync_all().unwrap();
        let length = file.metadata().unwrap().len();
        let (mut first, mut last) = (vec![0; MIB], vec![0; MIB]);
        file.read_exact_at(&mut first, 0).unwrap();
        file.read_exact_at(&mut last, length - MIB as u64).unwrap();
        [first, last].concat()
    });
    let begun = Instant::now();
    while !writer.is_finished() {
        assert!(begun.elapsed() < REPAIRED, "the file is never written again");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(writer.join().unwrap() == [bytes(1, MIB), bytes(3, MIB)].concat());
}

#[test]
fn the_last_replica_of_a_writer_that_is_gone_is_gone_on_with() {
    let (cluster, path) = writer_gone_with_its_servers(&SERVERS[1..]);
    SERVERS.iter().for_each(|server| cluster.start(server));
    cluster.start("mount");
    goes_on(path);
    wait_until_whole(&cluster, 3);
}

#[test]
fn a_slow_disk_is_waited_for_while_its_replica_is_needed() {
    let (cluster, path) = writer_gone_with_its_servers(&SERVERS[2..]);
    SERVERS.iter().for_each(|server| cluster.start(server));
    // Two replicas are needed and left, and raising the version of this one takes longer than a quick disk is given.
    let slow = |by| (1..=2).for_each(|disk| cluster.faults(SERVERS[1], disk).slow_down(by));
    slow(Duration::from_millis(500));
    cluster.start("mount");
    goes_on(path);
    slow(Duration::ZERO);
    wait_until_whole(&cluster, 3);
}

#[test]
fn a_writer_that_waits_for_a_reconciliation_keeps_its_lease() {
    let (cluster, path) = writer_gone_with_its_servers(&SERVERS[2..]);
    SERVERS.iter().for_each(|server| cluster.start(server));
    // Two replicas are needed and left, and the version of this one is raised by nobody's patience.
    let slow = |by| (1..=2).for_each(|disk| cluster.faults(SERVERS[1], disk).slow_down(by));
    slow(Duration::from_secs(6));
    cluster.start("mount");
    let writer = std::thread::spawn(move || goes_on(path));
    // Longer than anybody else would wait for the lease.
    std::thread::sleep(LEASE_RECALL + Duration::from_secs(3));
    slow(Duration::ZERO);
    writer.join().unwrap();
    let events = cluster.json(&["admin", "events"]);
    let taken = events.as_array().unwrap().iter().filter(|event| event["kind"] == "lease_taken");
    assert_eq!(taken.count(), 1, "that of the dead mount: {events:#}");
    wait_until_whole(&cluster, 3);
}
