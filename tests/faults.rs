//! Chunk servers that die, freeze, or hand out damaged bytes under a running application.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::stall::Stall;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const STEP: usize = 1 << 20;

/// Generous bounds: these tests hold the behaviour, the benchmark holds the figures.
const STALL_LIMIT: Duration = Duration::from_secs(5);

fn write_stepwise(path: &Path, contents: &[u8], mut at_half: impl FnMut()) -> Duration {
    let mut file = File::create(path).unwrap();
    let mut stall = Stall::default();
    for (number, step) in contents.chunks(STEP).enumerate() {
        if number * STEP * 2 >= contents.len() && (number - 1) * STEP * 2 < contents.len() {
            at_half();
            stall = Stall::default();
        }
        file.write_all(step).unwrap();
        stall.success();
    }
    file.sync_all().unwrap();
    stall.success();
    stall.longest()
}

fn read_stepwise(path: &Path, contents: &[u8], mut at_half: impl FnMut()) -> Duration {
    let mut file = File::open(path).unwrap();
    let mut stall = Stall::default();
    let mut buffer = vec![0; STEP];
    for (number, step) in contents.chunks(STEP).enumerate() {
        if number * STEP * 2 >= contents.len() && (number - 1) * STEP * 2 < contents.len() {
            at_half();
            stall = Stall::default();
        }
        file.read_exact(&mut buffer[..step.len()]).unwrap();
        assert!(buffer[..step.len()] == *step, "wrong bytes in MiB {number}");
        stall.success();
    }
    stall.longest()
}

/// A chunk server that holds a replica of the only file.
fn holder(cluster: &Cluster) -> String {
    (1..=3).map(|n| format!("chunkserver-{n}")).find(|name| !cluster.replica_files(name).is_empty()).unwrap()
}

fn signal(cluster: &Cluster, name: &str, signal: Signal) {
    let pid = cluster.process(name).pid.unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn a_killed_chunk_server_is_not_noticed_by_writers_and_readers() {
    for replicas in [2, 3] {
        let cluster = Cluster::up(ClusterOptions { chunkservers: 3, replicas });
        let contents = bytes(5, 160 << 20);
        let path = cluster.mount().join("f");
        let stall = write_stepwise(&path, &contents, || cluster.kill(&holder(&cluster)));
        assert!(stall < STALL_LIMIT, "write stalled {stall:?}");
        cluster.dev(&["up"]);
        // What was written with a server away has fewer copies now; a new file has all of them.
        let path = cluster.mount().join("g");
        fs::write(&path, &contents).unwrap();
        cluster.remount();
        let stall = read_stepwise(&path, &contents, || cluster.kill(&holder(&cluster)));
        assert!(stall < STALL_LIMIT, "read stalled {stall:?}");
    }
}

#[test]
fn a_frozen_chunk_server_is_not_noticed_by_writers_and_readers() {
    let cluster = Cluster::up(ClusterOptions { chunkservers: 3, replicas: 2 });
    let contents = bytes(6, 160 << 20);
    let path = cluster.mount().join("f");
    let frozen = std::cell::RefCell::new(String::new());
    let freeze = || {
        *frozen.borrow_mut() = holder(&cluster);
        signal(&cluster, &frozen.borrow(), Signal::STOP);
    };
    let stall = write_stepwise(&path, &contents, freeze);
    signal(&cluster, &frozen.borrow(), Signal::CONT);
    assert!(stall < STALL_LIMIT, "write stalled {stall:?}");
    // What was written with a server away has fewer copies now; a new file has all of them, once the server is back.
    std::thread::sleep(Duration::from_secs(3));
    let path = cluster.mount().join("g");
    fs::write(&path, &contents).unwrap();
    cluster.remount();
    let stall = read_stepwise(&path, &contents, freeze);
    signal(&cluster, &frozen.borrow(), Signal::CONT);
    assert!(stall < STALL_LIMIT, "read stalled {stall:?}");
    assert!(fs::read(&path).unwrap() == contents);
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_damaged_replica_never_reaches_a_reader_and_is_counted() {
    let cluster = Cluster::up(ClusterOptions { chunkservers: 3, replicas: 3 });
    let contents = bytes(7, 3 << 20);
    let path = cluster.mount().join("f");
    fs::write(&path, &contents).unwrap();
    // Of each stretch that is read at once only one replica is sound: in whichever order they are asked, the others are met.
    // The servers are stopped cleanly, which writes everything in place, so that the damage lands below the intent journal.
    damage_all(&cluster, |server| {
        let stretches = (0..12).filter(|stretch| stretch % 3 != server - 1);
        stretches.flat_map(|stretch| [(stretch << 18) + 13_000, (stretch << 18) + 99_000]).collect()
    });
    cluster.remount();
    assert!(fs::read(&path).unwrap() == contents);
    // Heartbeats carry the counts.
    std::thread::sleep(Duration::from_secs(1));
    let status = cluster.json(&["admin", "status"]);
    assert!(status["corrupt_blocks_found"].as_u64().unwrap() > 0, "{status}");

    damage_all(&cluster, |_| vec![5000]);
    cluster.remount();
    let error = fs::read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    assert!(cluster.log("mount").contains("chunk"), "the mount's log says which chunk cannot be read");
}

fn damage_all(cluster: &Cluster, offsets: impl Fn(u64) -> Vec<u64>) {
    for server in 1..=3 {
        let name = format!("chunkserver-{server}");
        cluster.stop(&name);
        for file in cluster.replica_files(&name) {
            if file.metadata().unwrap().len() > 0 {
                offsets(server).into_iter().for_each(|offset| flip(&file, offset));
            }
        }
    }
    cluster.dev(&["up"]);
}

#[test]
fn a_stopped_server_comes_back_and_its_stale_replicas_are_not_read() {
    let cluster = Cluster::up(ClusterOptions { chunkservers: 3, replicas: 2 });
    let path = cluster.mount().join("f");
    fs::write(&path, bytes(8, 1 << 20)).unwrap();
    let away = holder(&cluster);
    cluster.kill(&away);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&bytes(9, 1 << 20), 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    cluster.start(&away);
    for _ in 0..5 {
        cluster.remount();
        assert!(fs::read(&path).unwrap() == bytes(9, 1 << 20));
    }
}
