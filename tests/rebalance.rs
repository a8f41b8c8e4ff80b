//! Chunk servers are evened out while applications go on and what carries it out dies.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
/// What each server may store: some 60 % of it are used by five.
const CAPACITY_MIB: u64 = 640;
const FILES: u64 = 80;
const LENGTH: usize = 8 << 20;

fn write_file(path: &Path, number: u64, length: usize) {
    let mut file = File::create(path).unwrap();
    file.write_all(&bytes(number, length)).unwrap();
    file.sync_all().unwrap();
}

/// Gives a server so much room, as its configuration says it.
fn bound(cluster: &Cluster, name: &str, capacity_mib: u64) {
    cluster.stop(name);
    let file = cluster.root().join(name).join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}capacity_mib = {capacity_mib}\n")).unwrap();
    cluster.start(name);
}

fn status(cluster: &Cluster) -> Value {
    cluster.json(&["admin", "rebalance", "status"])
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

fn wait(cluster: &Cluster, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status = status(cluster);
        if is_so(&status) {
            println!("{what} after {:.1} s", begun.elapsed().as_secs_f64());
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "not {what}: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ends the application also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_empty_server_gets_its_share_whatever_dies_on_the_way() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 5, replicas: 2 });
    let mount = cluster.mount();
    (1..=5).for_each(|number| bound(&cluster, &format!("chunkserver-{number}"), CAPACITY_MIB));
    (0..FILES).for_each(|number| write_file(&mount.join(format!("f{number}")), number, LENGTH));
    cluster.dev(&["up", "--chunkservers", "6"]);
    bound(&cluster, "chunkserver-6", CAPACITY_MIB);
    std::thread::sleep(Duration::from_secs(1));

    let plan = cluster.json(&["admin", "rebalance", "plan"]);
    assert!(count(&plan, "spread_permille") > 350 && count(&plan, "spread_after_permille") <= 50, "{plan}");
    assert!(plan["flows"].as_array().unwrap().iter().all(|flow| flow["to"] == 6), "{plan}");
    assert_eq!(plan["state"], "idle", "a plan moves nothing");
    assert!(!cluster.try_cairn(&["admin", "rebalance", "pause"]).status.success(), "nothing goes on");

    let stop = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                write_file(&mount.join(format!("new{}", number % 8)), number, 60_000);
                let old = number * 7 % FILES;
                let read = fs::read(mount.join(format!("f{old}"))).unwrap();
                assert!(read == bytes(old, LENGTH), "file {old}");
            }
            println!("{number} rounds of the application");
        });
        let _stop = Stop(&stop);
        cluster.cairn(&["admin", "rebalance", "start", "--limit", "24MiB"]);
        assert!(!cluster.try_cairn(&["admin", "rebalance", "start"]).status.success(), "one goes on");
        wait(&cluster, "begun", |status| count(status, "moved_bytes") > 20 << 20);
        cluster.cairn(&["admin", "rebalance", "pause"]);
        // What is under way ends.
        let paused = wait(&cluster, "at rest", |status| count(status, "under_way") == 0);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(
            (&paused["state"], &status(&cluster)["moved_bytes"]),
            (&"paused".into(), &paused["moved_bytes"])
        );
        cluster.cairn(&["admin", "rebalance", "resume"]);
        let leader = cluster.leader();
        cluster.kill(&leader);
        let before = count(&paused, "moved_bytes");
        wait(&cluster, "going on with another leader", |status| {
            count(status, "moved_bytes") > before + (10 << 20)
        });
        assert_eq!(cluster.json(&["admin", "status"])["short_chunks"], 0);
        cluster.start(&leader);
        cluster.kill("chunkserver-3");
        wait(&cluster, "waiting", |status| status["state"] == "waiting");
        cluster.start("chunkserver-3");
        wait(&cluster, "done", |status| status["state"] == "done")
    });
    assert!(count(&ended, "spread_permille") <= 50, "{ended}");
    let (moved, planned) = (count(&ended, "moved_bytes"), count(&ended, "planned_bytes"));
    println!("{} of {} MiB", moved >> 20, planned >> 20);
    // What the application wrote, and a killed server took out of step, moves as well.
    assert!(moved > planned / 2 && moved < planned + planned / 4, "{ended}");
    cluster.remount();
    for number in 0..FILES {
        assert!(
            fs::read(mount.join(format!("f{number}"))).unwrap() == bytes(number, LENGTH),
            "file {number}"
        );
    }
    let checked = cluster.try_cairn(&["admin", "fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Two replicas fit into what each of five has too much, and then a third into none of them, although a sixth lacks three.
#[test]
fn replicas_larger_than_what_is_left_to_move_do_not_keep_it_from_its_end() {
    const MIB: usize = 1 << 20;
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 5, replicas: 5 });
    (1..=5).for_each(|number| bound(&cluster, &format!("chunkserver-{number}"), 300));
    (0..15).for_each(|number| write_file(&cluster.mount().join(number.to_string()), number, 12 * MIB));
    cluster.dev(&["up", "--chunkservers", "6"]);
    bound(&cluster, "chunkserver-6", 300);
    std::thread::sleep(Duration::from_secs(1));
    let plan = cluster.json(&["admin", "rebalance", "plan"]);
    assert!((560..=620).contains(&count(&plan, "spread_permille")), "{plan}");
    // A limit by which hours lie between two replicas, the smallest too, keeps nobody waiting who wants another.
    cluster.cairn(&["admin", "rebalance", "start", "--limit", "1"]);
    std::thread::sleep(Duration::from_secs(1));
    cluster.cairn(&["admin", "rebalance", "cancel"]);
    let first = wait(&cluster, "at rest", |status| count(status, "under_way") == 0);
    let first = count(&first, "moved_bytes");
    cluster.cairn(&["admin", "rebalance", "start"]);
    let ended = wait(&cluster, "done", |status| status["state"] == "done");
    assert!(count(&ended, "spread_permille") <= 50, "{ended}");
    // 137.5 MiB are the least: twelve files, and what else is small.
    assert_eq!((first + count(&ended, "moved_bytes")) >> 20, 144, "{ended}");
    let (estimated, took) = (count(&plan, "estimated_ms") as f64, count(&ended, "elapsed_ms") as f64);
    println!("estimated {estimated} ms, took {took} ms");
}
