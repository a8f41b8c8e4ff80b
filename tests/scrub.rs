//! What rots at rest is found on the medium, healed and not spread; what is being written is no damage.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the header of a replica file stands (docs/FORMATS.md), and its checksum table.
const HEADER_AT: u64 = 64 << 20;
const TABLE_AT: u64 = HEADER_AT + 4096;

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sum over all disks.
fn scrubbed(cluster: &Cluster, key: &str) -> u64 {
    let disks = cluster.json(&["admin", "scrub"]);
    disks.as_array().unwrap().iter().map(|disk| disk[key].as_u64().unwrap()).sum()
}

fn status(cluster: &Cluster, key: &str) -> u64 {
    cluster.json(&["admin", "status"])[key].as_u64().unwrap()
}

/// Paths and current replicas by chunk.
fn placement(cluster: &Cluster) -> BTreeMap<u64, (String, usize)> {
    let chunks = cluster.json(&["admin", "chunks", "/"]);
    let chunk = |chunk: &serde_json::Value| {
        let replicas = chunk["replicas"].as_array().unwrap().iter();
        let current = replicas.filter(|replica| replica["state"] == "current").count();
        (chunk["chunk"].as_u64().unwrap(), (chunk["path"].as_str().unwrap().to_owned(), current))
    };
    chunks.as_array().unwrap().iter().map(chunk).collect()
}

fn is_whole(cluster: &Cluster, copies: usize) -> bool {
    placement(cluster).values().all(|(_, current)| *current == copies)
        && status(cluster, "corrupt_replicas") == 0
}

fn servers(cluster: &Cluster) -> Vec<String> {
    let names = cluster.ps().into_iter().map(|process| process.name);
    names.filter(|name| name.starts_with("chunkserver-")).collect()
}

fn stop_all(cluster: &Cluster) {
    servers(cluster).iter().for_each(|name| cluster.stop(name));
}

fn start_all(cluster: &Cluster, copies: usize) {
    servers(cluster).iter().for_each(|name| cluster.start(name));
    wait_until("the servers are back", || is_whole(cluster, copies));
}

/// The file of a chunk's replica on a server, if there is one.
fn replica_file(cluster: &Cluster, server: &str, chunk: u64) -> Option<PathBuf> {
    let name = format!("{chunk:016x}.0");
    cluster.replica_files(server).into_iter().find(|path| path.file_name().unwrap().to_str() == Some(&name))
}

const LENGTHS: [(&str, usize); 3] = [("small", 50_000), ("odd", 3 * MIB + 77), ("zeros", 100_000)];

fn content(name: &str, length: usize) -> Vec<u8> {
    if name == "zeros" { vec![0; length] } else { bytes(length as u64, length) }
}

/// What of it is overwritten later.
const CHANGED: std::ops::Range<usize> = 5000..9000;

fn write_files(cluster: &Cluster) {
    for (name, length) in LENGTHS {
        let mut old = content(name, length);
        old[CHANGED].fill(0x77);
        let mut file = File::create(cluster.mount().join(name)).unwrap();
        file.write_all(&old).unwrap();
        file.sync_all().unwrap();
    }
}

fn overwrite_files(cluster: &Cluster) {
    for (name, length) in LENGTHS {
        let file = File::options().write(true).open(cluster.mount().join(name)).unwrap();
        file.write_all_at(&content(name, length)[CHANGED], CHANGED.start as u64).unwrap();
        file.sync_all().unwrap();
    }
}

fn read_files(cluster: &Cluster) {
    for (name, length) in LENGTHS {
        assert!(fs::read(cluster.mount().join(name)).unwrap() == content(name, length), "{name}");
    }
}

/// Every replica on every disk holds what the file holds: of all that was damaged nothing is left, here or elsewhere.
fn check_replicas(cluster: &Cluster, chunks: &BTreeMap<u64, (String, usize)>, copies: usize) {
    stop_all(cluster);
    for (chunk, (path, _)) in chunks {
        let name = path.trim_start_matches('/');
        let length = LENGTHS.iter().find(|(known, _)| *known == name).unwrap().1;
        let files: Vec<PathBuf> =
            servers(cluster).iter().filter_map(|server| replica_file(cluster, server, *chunk)).collect();
        assert_eq!(files.len(), copies, "replicas of {path}");
        for file in files {
            let mut stored = vec![0; length];
            File::open(&file).unwrap().read_exact_at(&mut stored, 0).unwrap();
            assert!(stored == content(name, length), "{} differs from {path}", file.display());
        }
    }
    start_all(cluster, copies);
}

/// Changes one byte of a file in place.
fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x41], offset).unwrap();
    file.sync_all().unwrap();
}

fn swap(first: &Path, second: &Path) {
    let aside = first.with_extension("aside");
    fs::rename(first, &aside).unwrap();
    fs::rename(second, first).unwrap();
    fs::rename(&aside, second).unwrap();
}

/// Has every server look at everything it stores, now, and waits for what it finds to be found and healed.
fn found_and_healed(cluster: &Cluster, what: &str, copies: usize, damage: impl FnOnce() -> u64) {
    let before = status(cluster, "corrupt_blocks_found");
    let expected = before + damage();
    cluster.cairn(&["admin", "scrub", "start", "--limit", "0"]);
    let found = || status(cluster, "corrupt_blocks_found") >= expected;
    wait_until(&format!("{what} is not found"), found);
    wait_until(&format!("{what} is not healed"), || is_whole(cluster, copies));
}

/// Every replica, one at a time, in every kind.
fn every_damage(cluster: &Cluster, copies: usize, old: &BTreeMap<PathBuf, PathBuf>) {
    let chunks = placement(cluster);
    assert_eq!(chunks.len(), LENGTHS.len(), "a chunk a file");
    let kinds = ["byte", "header", "table", "truncated", "missing", "swapped", "old"];
    for kind in kinds {
        let (begun, mut damaged) = (Instant::now(), 0);
        for (&chunk, (path, _)) in &chunks {
            for server in servers(cluster) {
                let Some(file) = replica_file(cluster, &server, chunk) else { continue };
                let others = chunks.keys().filter(|other| **other != chunk);
                let other = others.filter_map(|other| replica_file(cluster, &server, *other)).next();
                let what = format!("{kind} of {path} on {server}");
                found_and_healed(cluster, &what, copies, || {
                    match (kind, other) {
                        // Of zeros a copy has the first block only.
                        ("byte", _) => {
                            flip(&file, if path == "/zeros" { 123 } else { 4096 * (chunk % 3) + 123 })
                        }
                        ("header", _) => flip(&file, HEADER_AT + 17),
                        ("table", _) => flip(&file, TABLE_AT + 1),
                        ("truncated", _) => {
                            File::options().write(true).open(&file).unwrap().set_len(6000).unwrap();
                        }
                        ("missing", _) => fs::remove_file(&file).unwrap(),
                        ("swapped", Some(other)) => {
                            swap(&file, &other);
                            damaged += 1;
                            return 2;
                        }
                        ("old", _) => match old.get(&file) {
                            Some(old) => {
                                fs::copy(old, file.with_extension("put")).unwrap();
                                fs::rename(file.with_extension("put"), &file).unwrap();
                            }
                            None => return 0,
                        },
                        _ => return 0,
                    }
                    damaged += 1;
                    1
                });
            }
        }
        println!("{damaged} x {kind}: found and healed in {:.1} s", begun.elapsed().as_secs_f64());
        check_replicas(cluster, &chunks, copies);
        cluster.remount();
        read_files(cluster);
    }
    let checked = cluster.try_cairn(&["admin", "fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// A cluster whose files were changed once, at rest, and what their replicas were before.
fn changed_once(shape: ClusterOptions) -> (Cluster, BTreeMap<PathBuf, PathBuf>) {
    let cluster = Cluster::up(shape);
    let copies = usize::from(shape.replicas);
    write_files(&cluster);
    stop_all(&cluster);
    let mut old = BTreeMap::new();
    let aside = cluster.root().join("old");
    fs::create_dir(&aside).unwrap();
    for file in servers(&cluster).iter().flat_map(|server| cluster.replica_files(server)) {
        let kept = aside.join(old.len().to_string());
        fs::copy(&file, &kept).unwrap();
        old.insert(file, kept);
    }
    start_all(&cluster, copies);
    overwrite_files(&cluster);
    // Into the files, out of the journals.
    stop_all(&cluster);
    start_all(&cluster, copies);
    (cluster, old)
}

#[test]
fn every_damage_of_every_replica_is_found_and_healed_in_its_place() {
    let (cluster, old) = changed_once(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    every_damage(&cluster, 3, &old);
}

#[test]
fn every_damage_of_every_replica_is_found_and_healed_elsewhere() {
    let (cluster, old) = changed_once(ClusterOptions { masters: 1, chunkservers: 3, replicas: 2 });
    every_damage(&cluster, 2, &old);
}

/// Programs that overwrite synced blocks, small and large, with and without a sync.
#[test]
fn what_is_overwritten_meanwhile_is_no_damage() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    let length = 4 * MIB;
    let names = ["a", "b", "c"];
    for name in names {
        fs::write(cluster.mount().join(name), vec![0; length]).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (number, name) in names.iter().enumerate() {
            let (mount, stop) = (cluster.mount(), &stop);
            scope.spawn(move || {
                let file = File::options().write(true).read(true).open(mount.join(name)).unwrap();
                let mut expected = vec![0; length];
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let size = [100, 4096, 70_000][round % 3];
                    let at = (round * 7_919 * (number + 1) * 512) % (length - size);
                    let piece = bytes(round as u64, size);
                    file.write_all_at(&piece, at as u64).unwrap();
                    expected[at..at + size].copy_from_slice(&piece);
                    if round % 4 == 0 {
                        file.sync_all().unwrap();
                    }
                }
                println!("{round} writes");
                let mut found = vec![0; length];
                file.read_exact_at(&mut found, 0).unwrap();
                assert!(found == expected, "{name}");
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(12) {
            let rounds = scrubbed(&cluster, "rounds");
            cluster.cairn(&["admin", "scrub", "start", "--limit", "0"]);
            wait_until("rounds end under load", || scrubbed(&cluster, "rounds") >= rounds + 3);
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} rounds", scrubbed(&cluster, "rounds"));
    assert_eq!(scrubbed(&cluster, "damaged_found"), 0);
    assert_eq!(status(&cluster, "corrupt_blocks_found"), 0);
}

/// A value of a Prometheus page, summed over its labels.
fn metric(cluster: &Cluster, process: &str, name: &str) -> f64 {
    let config = fs::read_to_string(cluster.root().join(process).join("config.toml")).unwrap();
    let line = config.lines().find(|line| line.starts_with("http_listen")).unwrap();
    let mut stream = TcpStream::connect(line.split('"').nth(1).unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains(&format!("# HELP {}", name.trim_end_matches("_total"))), "{page}");
    let of_it = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    of_it.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn progress_and_commands_survive_restarts_of_the_server() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 1, replicas: 1 });
    for number in 0..24 {
        fs::write(cluster.mount().join(format!("f{number}")), bytes(number, MIB)).unwrap();
    }
    let disk = || cluster.json(&["admin", "scrub"])[0].clone();
    wait_until("all is stored", || disk()["used_bytes"].as_u64().unwrap() >= 24 * MIB as u64);
    let begun = &cluster.json(&["admin", "scrub", "start", "--limit", "4"])[0];
    assert_eq!((&begun["state"], &begun["limit_bytes_per_second"]), (&"demanded".into(), &(4 * MIB).into()));
    assert!(begun["ends_in_ms"].as_u64().is_some(), "{begun}");
    let percent = || disk()["progress_percent"].as_f64().unwrap();
    wait_until("it moves", || percent() > 20.0);
    let paused = cluster.json(&["admin", "scrub", "pause"])[0].clone();
    assert_eq!(paused["state"], "paused");
    assert!(cluster.cairn(&["admin", "status"]).contains("scrubbing is paused"));
    let passed = disk()["passed_bytes"].as_u64().unwrap();
    cluster.kill("chunkserver-1");
    let refused = cluster.try_cairn(&["admin", "scrub", "resume"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("chunkserver-1: it is not connected"));
    cluster.start("chunkserver-1");
    wait_until("it is back", || disk()["state"] == "paused");
    let after = disk()["passed_bytes"].as_u64().unwrap();
    assert!(after > 0 && after <= passed && after + 2 * MIB as u64 >= passed, "{after} of {passed}");
    cluster.kill(&cluster.leader());
    cluster.leader();
    wait_until("the next leader has heard of it", || {
        cluster.json(&["admin", "scrub"]).as_array().is_some_and(|disks| !disks.is_empty())
    });
    assert_eq!(cluster.json(&["admin", "scrub", "resume"])[0]["state"], "demanded");
    wait_until("the round ends", || disk()["rounds"] == 1);
    let verified = disk()["verified_bytes"].as_u64().unwrap();
    assert!((24 * MIB as u64..26 * MIB as u64).contains(&verified), "{verified} bytes: a part of it twice");
    cluster.stop("chunkserver-1");
    cluster.start("chunkserver-1");
    wait_until("it is back", || disk()["state"] == "scheduled");
    assert_eq!((disk()["rounds"].as_u64(), disk()["damaged_found"].as_u64()), (Some(1), Some(0)));
    let of_server =
        |name: &str| metric(&cluster, "chunkserver-1", &format!("cairn_chunkserver_scrub_{name}"));
    assert!(of_server("verified_bytes_total") >= verified as f64);
    assert_eq!((of_server("rounds_total"), of_server("damaged_replicas_total")), (1.0, 0.0));
    let oldest = of_server("oldest_unverified_seconds");
    let of_all = metric(&cluster, &cluster.leader(), "cairn_master_scrub_oldest_unverified_seconds");
    assert!(oldest < 60.0 && (of_all - oldest).abs() <= 2.0, "{oldest} {of_all}");
    let unknown = cluster.try_cairn(&["admin", "scrub", "--server", "9"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no chunk server 9"));
}

/// Nobody has a good replica, but somebody has each block.
#[test]
fn replicas_damaged_in_different_blocks_are_mended_from_each_other() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    let chunks = damage_at_rest(&cluster, 3, |number, file| flip(file, 4096 * number as u64 + 55));
    wait_until("all are healed", || is_whole(&cluster, 3));
    cluster.start("mount");
    read_files(&cluster);
    check_replicas(&cluster, &chunks, 3);
}

/// Stops the mount and all servers, does damage to every replica, and waits until all of it is found.
fn damage_at_rest(
    cluster: &Cluster,
    copies: usize,
    damage: impl Fn(usize, &Path),
) -> BTreeMap<u64, (String, usize)> {
    for (name, length) in LENGTHS {
        fs::write(cluster.mount().join(name), content(name, length)).unwrap();
    }
    cluster.stop("mount");
    stop_all(cluster);
    start_all(cluster, copies);
    let chunks = placement(cluster);
    stop_all(cluster);
    for (number, server) in servers(cluster).iter().enumerate() {
        chunks.keys().for_each(|&chunk| damage(number, &replica_file(cluster, server, chunk).unwrap()));
    }
    servers(cluster).iter().for_each(|name| cluster.start(name));
    let damaged = (copies * chunks.len()) as u64;
    wait_until("all are found", || {
        cluster.cairn(&["admin", "scrub", "start", "--limit", "0"]);
        scrubbed(cluster, "damaged_found") >= damaged
    });
    chunks
}

/// A table can be put right with what its blocks say: the digest proves it.
#[test]
fn an_only_copy_with_a_damaged_table_is_read_again() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 1, replicas: 1 });
    let chunks = damage_at_rest(&cluster, 1, |_, file| flip(file, TABLE_AT + 2));
    wait_until("it is healed", || is_whole(&cluster, 1));
    cluster.start("mount");
    read_files(&cluster);
    check_replicas(&cluster, &chunks, 1);
}

#[test]
fn what_is_damaged_on_every_copy_is_an_error_and_told_and_the_rest_is_read() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    damage_at_rest(&cluster, 3, |number, file| {
        flip(file, 55);
        flip(file, 4096 * (1 + number as u64) + 55);
    });
    let events = || cluster.cairn(&["admin", "events", "--json"]);
    wait_until("it is told", || events().contains("chunk_damaged"));
    let why = cluster.cairn(&["admin", "why", "/odd"]);
    assert!(why.contains("no copy") && why.contains("put together"), "{why}");
    cluster.start("mount");
    let whole = content(LENGTHS[1].0, LENGTHS[1].1);
    let file = File::open(cluster.mount().join(LENGTHS[1].0)).unwrap();
    let mut read = vec![0; whole.len() - 4096];
    file.read_exact_at(&mut read, 4096).unwrap();
    assert!(read == whole[4096..], "what is whole on some copy is read");
    let damaged = file.read_exact_at(&mut read[..4096], 0).unwrap_err();
    assert_eq!(damaged.raw_os_error(), Some(5), "{damaged}");
}
