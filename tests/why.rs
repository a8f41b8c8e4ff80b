//! What `cairn admin why` says of files that somebody waits for, and of one that nobody does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::cairn_binary;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn why(cluster: &Cluster, path: &str) -> serde_json::Value {
    cluster.json(&["admin", "why", path])
}

/// The first wait whose words contain all of `words`, as soon as there is one.
fn wait_for(cluster: &Cluster, path: &str, words: &[&str]) -> serde_json::Value {
    let begun = Instant::now();
    loop {
        let said = why(cluster, path);
        let has_words = |wait: &&serde_json::Value| {
            let text = format!("{} {} {}", wait["operations"], wait["waits_for"], wait["then"]);
            words.iter().all(|word| text.contains(word))
        };
        if let Some(wait) = said["waits"].as_array().unwrap().iter().find(has_words) {
            return wait.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "no wait with {words:?} in {said:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nothing_waits_for_a_healthy_file_and_writes_wait_for_servers_that_are_down() {
    let cluster = Cluster::up(ClusterOptions::default());
    fs::write(cluster.mount().join("f"), vec![7; 300_000]).unwrap();
    let said = why(&cluster, "/f");
    assert_eq!(said["waits"], serde_json::json!([]), "{said:#}");
    assert_eq!((&said["chunks"], &said["chunks_whole"]), (&1.into(), &1.into()), "{said:#}");
    let text = cluster.cairn(&["admin", "why", "/f"]);
    assert!(text.contains("nothing waits for anybody"), "{text}");
    let by_number = why(&cluster, &format!("inode-{}", said["inode"]));
    assert_eq!(by_number["size"], 300_000);
    assert!(!cluster.try_cairn(&["admin", "why", "/absent"]).status.success());

    cluster.kill("chunkserver-1");
    cluster.kill("chunkserver-2");
    let wait = wait_for(&cluster, "/f", &["\"writes\"", "(down ", "fewer copies", "dead in "]);
    assert_eq!(wait["next"], "cairn admin servers");
    assert!(wait["since_ms"].as_u64().unwrap() < 10_000, "{wait}");
    wait_for(&cluster, "/f", &["writes of new data", "1 can take it, 2 are needed"]);
    let text = cluster.cairn(&["admin", "why", "/f"]);
    assert!(text.contains("WAIT     writes wait since"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    cluster.kill("chunkserver-3");
    wait_for(&cluster, "/f", &["reads and writes", "no other copy of chunk-", "nothing happens by itself"]);
}

/// A process that writes to the file `f` of a mount, until this is dropped. (Were the file open in the test's own process, no process
/// could be started while a mount is frozen: a child closes what it inherits, and waits for that.)
struct Writer(Child);

impl Writer {
    fn new(script: &str, mount: &Path) -> Self {
        Self(Command::new("sh").arg("-c").arg(script).arg(mount.join("f")).spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A process that is frozen until this is dropped.
struct Frozen(Pid);

impl Frozen {
    fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

#[test]
fn a_frozen_mount_that_holds_the_lease_is_named() {
    let mut cluster = Cluster::up(ClusterOptions::default());
    let second = cluster.second_mount();
    let script = "exec >> \"$0\"; echo from the first; exec sleep 600";
    let first = Writer::new(script, &cluster.mount());
    let begun = Instant::now();
    let holder = loop {
        let output = Command::new(cairn_binary())
            .args(["--masters", &cluster.masters(), "--json", "admin", "why", "/f"])
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if said["lease"]["session"].is_u64() {
            break said["lease"]["session"].clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{said:#}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let (mount, masters) = (cluster.process("mount").pid.and_then(Pid::from_raw).unwrap(), cluster.masters());
    // From here on nobody may look at the mount point, as `dev ps` does.
    let frozen = Frozen::new(mount);
    let mut writer = Writer::new("exec >> \"$0\"; echo from the second; exec sync \"$0\"", &second);
    let (begun, holder) = (Instant::now(), format!("session-{holder} ("));
    let wait = loop {
        let mut ask = Command::new(cairn_binary());
        let output = ask.args(["--masters", &masters, "--json", "admin", "why", "/f"]).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let is_it = |wait: &&serde_json::Value| wait["operations"] == "writes by other clients";
        if let Some(wait) = said["waits"].as_array().unwrap().iter().find(is_it) {
            break wait.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{said:#}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let text = wait.to_string();
    let words = [holder.as_str(), "to return the write lease", "wanted by session-", "taken by force"];
    words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
    assert!(wait["since_ms"].as_u64().unwrap() < 10_000, "{text}");
    assert!(writer.0.wait().unwrap().success());
    drop(frozen);
    drop(first);
    let events = cluster.json(&["admin", "events"]).to_string();
    assert!(events.contains("lease_taken"), "{events}");
}
