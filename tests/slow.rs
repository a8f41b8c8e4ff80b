//! What took long names who kept it waiting: a disk in the middle of a chain, a frozen client that holds a lease.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::{Cluster, ClusterOptions};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for an operation `what` whose longest wait is of this kind, and returns the place of that.
fn wait_for(cluster: &Cluster, what: &[&str], kind: &str) -> String {
    let begun = Instant::now();
    loop {
        let told = cluster.json(&["admin", "slow", "--since", "1h"]);
        let is_it = |operation: &&serde_json::Value| {
            what.contains(&operation["what"].as_str().unwrap()) && operation["hops"][0]["kind"] == kind
        };
        if let Some(operation) = told.as_array().unwrap().iter().find(is_it) {
            assert!(operation["took_us"].as_u64().unwrap() >= 500_000, "{operation}");
            assert!(operation["by"].as_str().unwrap().contains("mount"), "{operation}");
            return operation["hops"][0]["place"].as_str().unwrap().to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "no {what:?} that waits for {kind}: {told:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_slow_disk_is_named_wherever_it_stands_in_the_chain() {
    let cluster = Cluster::up_on_faulty_disks(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 }, 1);
    let mount = cluster.mount();
    fs::write(mount.join("before"), vec![1; 300_000]).unwrap();
    let quick = cluster.cairn(&["admin", "slow", "--since", "0s"]);
    assert!(quick.contains("operations of 0.500 s and more"), "{quick}");
    let servers = cluster.json(&["admin", "servers"]);
    let path = cluster.root().join("chunkserver-2");
    let on_it = |server: &&serde_json::Value| {
        server["disks"][0]["path"].as_str().unwrap().starts_with(path.to_str().unwrap())
    };
    let slow = servers.as_array().unwrap().iter().find(on_it).unwrap();
    let place = format!("chunkserver-{} ({})", slow["server"], slow["address"].as_str().unwrap());

    cluster.faults("chunkserver-2", 1).slow_down(Duration::from_millis(800));
    // In large frames down the chain, then small, to each server directly.
    for length in [3_000_000, 10_000] {
        let mut file = OpenOptions::new().create(true).append(true).open(mount.join("f")).unwrap();
        file.write_all(&vec![7; length]).unwrap();
        file.sync_all().unwrap();
    }
    cluster.faults("chunkserver-2", 1).slow_down(Duration::ZERO);
    assert_eq!(wait_for(&cluster, &["sync", "store"], "disk"), place);
    let text = cluster.cairn(&["admin", "slow"]);
    assert!(text.contains("the disk of chunkserver-"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn whoever_waits_for_the_master_says_so() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 2, replicas: 2 });
    let mount = cluster.mount();
    fs::write(mount.join("f"), b"1").unwrap();
    let stopped = ["master-1", "master-2"];
    stopped.iter().for_each(|name| cluster.kill(name));
    let maker = std::thread::spawn(move || fs::create_dir(mount.join("made late")).unwrap());
    std::thread::sleep(Duration::from_millis(800));
    stopped.iter().for_each(|name| cluster.start(name));
    maker.join().unwrap();
    wait_for(&cluster, &["mkdir", "query"], "master");
}
