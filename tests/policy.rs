//! Storage policies: files land where their policy wants them, and follow when it changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const FILES: u64 = 24;

/// Writes labels into the configuration of a chunk server and starts it anew.
fn label(cluster: &Cluster, number: usize, labels: &str) {
    let name = format!("chunkserver-{number}");
    cluster.stop(&name);
    let file = cluster.root().join(&name).join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text: String =
        text.lines().filter(|line| !line.starts_with("labels")).map(|line| format!("{line}\n")).collect();
    fs::write(&file, format!("labels = [{labels}]\n{text}")).unwrap();
    cluster.start(&name);
}

/// Servers with one of these labels.
fn servers_with(cluster: &Cluster, label: &str) -> BTreeSet<u64> {
    let servers = cluster.json(&["admin", "servers"]);
    let has =
        |server: &&serde_json::Value| server["labels"].as_array().unwrap().iter().any(|known| known == label);
    servers.as_array().unwrap().iter().filter(has).map(|server| server["server"].as_u64().unwrap()).collect()
}

/// Servers with a current replica, of every chunk at and below a path.
fn placement(cluster: &Cluster, path: &str) -> Vec<BTreeSet<u64>> {
    let chunks = cluster.json(&["admin", "chunks", path]);
    let servers = |chunk: &serde_json::Value| {
        let replicas = chunk["replicas"].as_array().unwrap().iter();
        let current = replicas.filter(|replica| replica["state"] == "current");
        current.map(|replica| replica["server"].as_u64().unwrap()).collect()
    };
    chunks.as_array().unwrap().iter().map(servers).collect()
}

fn wait_for(cluster: &Cluster, path: &str, what: &str, fits: impl Fn(&BTreeSet<u64>) -> bool) {
    let begun = Instant::now();
    loop {
        let placement = placement(cluster, path);
        let amiss: Vec<_> = placement.iter().filter(|servers| !fits(servers)).collect();
        if amiss.is_empty() && !placement.is_empty() {
            return;
        }
        let list = || cluster.cairn(&["admin", "policy", "list"]);
        assert!(begun.elapsed() < PATIENCE, "{what}: {amiss:?} of {} are not; {}", placement.len(), list());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn write_files(directory: &Path, seed: u64) {
    for number in 0..FILES {
        fs::write(directory.join(format!("f{number}")), bytes(seed + number, 20_000 + number as usize))
            .unwrap();
    }
    std::process::Command::new("sync").arg("-f").arg(directory).status().unwrap();
}

fn read_files(directory: &Path, seed: u64) {
    for number in 0..FILES {
        let read = fs::read(directory.join(format!("f{number}"))).unwrap();
        assert!(read == bytes(seed + number, 20_000 + number as usize), "file {number}");
    }
}

fn is_sound(cluster: &Cluster) {
    let checked = cluster.try_cairn(&["admin", "fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Files and directories, and chunks, that have a policy.
fn users(cluster: &Cluster, name: &str) -> (u64, u64) {
    let list = cluster.json(&["admin", "policy", "list"]);
    let policies = list["policies"].as_array().unwrap();
    let found = policies.iter().find(|policy| policy["name"] == name).unwrap();
    (found["inodes"].as_u64().unwrap(), found["chunks"].as_u64().unwrap())
}

/// Without anything that has it a policy can go, also while a mount runs that wrote under it.
fn is_given_back_and_removed(cluster: &Cluster, name: &str) {
    cluster.cairn(&["admin", "policy", "set", "/", "default", "--recursive"]);
    let begun = Instant::now();
    while users(cluster, name) != (0, 0) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", users(cluster, name));
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.cairn(&["admin", "policy", "remove", name]);
}

#[test]
fn files_stand_where_their_policy_wants_them_and_follow_when_it_changes() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 5, replicas: 2 });
    for (number, media) in (1..).zip(["ssd", "ssd", "ssd", "hdd", "hdd"]) {
        label(&cluster, number, &format!("\"media={media}\""));
    }
    let ssd = servers_with(&cluster, "media=ssd");
    assert_eq!(ssd.len(), 3);
    cluster.remount();
    let (fast, plain) = (cluster.mount().join("fast"), cluster.mount().join("plain"));
    fs::create_dir(&fast).unwrap();
    fs::create_dir(&plain).unwrap();
    cluster.cairn(&["admin", "policy", "create", "hot", "--replicas", "2", "--require", "media=ssd"]);
    cluster.cairn(&["admin", "policy", "set", "/fast", "hot"]);
    fs::create_dir(fast.join("below")).unwrap();
    write_files(&fast.join("below"), 100);
    write_files(&plain, 200);
    assert_eq!(cluster.json(&["admin", "policy", "show", "/fast/below/f1"])["policies"][0]["name"], "hot");
    assert_eq!(cluster.json(&["admin", "policy", "show", "/plain"])["policies"][0]["name"], "default");
    // At once: they were placed there, not moved there.
    let placed = placement(&cluster, "/fast");
    assert!(
        placed.len() >= FILES as usize && placed.iter().all(|on| on.len() == 2 && on.is_subset(&ssd)),
        "{placed:?}"
    );

    // More copies, and nobody leads in the midst of it.
    cluster.cairn(&["admin", "policy", "change", "hot", "--replicas", "3"]);
    cluster.kill(&cluster.leader());
    read_files(&fast.join("below"), 100);
    wait_for(&cluster, "/fast", "three copies", |on| *on == ssd);

    // More than there are servers with the label: others help out, and it is said.
    cluster.cairn(&["admin", "policy", "change", "hot", "--replicas", "4"]);
    wait_for(&cluster, "/fast", "four copies", |on| on.len() == 4 && on.is_superset(&ssd));
    let warnings = cluster.json(&["admin", "status"])["warnings"].to_string();
    assert!(
        warnings.contains("policy hot wants 4 chunk servers with media=ssd, and 3 are alive"),
        "{warnings}"
    );

    // Fewer copies: those elsewhere go first.
    cluster.cairn(&["admin", "policy", "change", "hot", "--replicas", "1"]);
    read_files(&fast.join("below"), 100);
    wait_for(&cluster, "/fast", "one copy", |on| on.len() == 1 && on.is_subset(&ssd));
    read_files(&fast.join("below"), 100);

    // What is there already gets it with all below, and moves.
    cluster.cairn(&["admin", "policy", "set", "/plain", "hot", "--recursive"]);
    wait_for(&cluster, "/plain", "one copy on an ssd", |on| on.len() == 1 && on.is_subset(&ssd));
    let refused = cluster.try_cairn(&["admin", "policy", "remove", "hot"]);
    assert!(!refused.status.success());
    cluster.cairn(&["admin", "policy", "change", "hot", "--replicas", "2", "--require", "media=hdd"]);
    wait_for(&cluster, "/", "two copies on hard disks", |on| on.len() == 2 && on.is_disjoint(&ssd));
    read_files(&fast.join("below"), 100);
    read_files(&plain, 200);
    is_given_back_and_removed(&cluster, "hot");
    // From where they are now.
    cluster.remount();
    read_files(&fast.join("below"), 100);
    read_files(&plain, 200);
    is_sound(&cluster);
}

#[test]
fn copies_in_one_rack_part_when_servers_get_labels() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 4, replicas: 2 });
    write_files(&cluster.mount(), 300);
    for (number, rack) in (1..).zip(["a", "a", "a", "b"]) {
        label(&cluster, number, &format!("\"rack={rack}\""));
    }
    let alone = servers_with(&cluster, "rack=b");
    wait_for(&cluster, "/", "in two racks", |on| on.len() == 2 && on.is_superset(&alone));
    read_files(&cluster.mount(), 300);
    let capacity = cluster.json(&["admin", "capacity"]);
    assert_eq!(capacity["policies"][0]["racks"], 2, "{capacity}");
    is_sound(&cluster);
}
