//! What scripts rely on: the fields of `--json`, as docs/JSON.md lists them; and what people rely on: 80 columns.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::{Cluster, ClusterOptions};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// By heading (`admin status`, `admin status / backup`): the fields that stand under it.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/JSON.md");
    let (mut all, mut heading) = (BTreeMap::new(), String::new());
    for line in fs::read_to_string(path).unwrap().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.trim_matches('`').to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let (names, _) = row.split_once('|').unwrap();
            let names = names.split(',').map(|name| name.trim().trim_matches('`').to_owned());
            all.entry(heading.clone()).or_insert_with(BTreeSet::new).extend(names);
        }
    }
    all
}

fn fields(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().cloned().collect()
}

struct Shapes {
    cluster: Cluster,
    documented: BTreeMap<String, BTreeSet<String>>,
}

impl Shapes {
    /// The answer to a command has exactly the documented fields; of a list, its first item.
    fn check(&mut self, heading: &str, arguments: &[&str]) -> Value {
        let answer = self.cluster.json(arguments);
        self.check_value(heading, answer.as_array().map_or(&answer, |items| &items[0]));
        answer
    }

    fn check_value(&mut self, heading: &str, value: &Value) {
        let documented =
            self.documented.remove(heading).unwrap_or_else(|| panic!("docs/JSON.md has no {heading}"));
        assert_eq!(fields(value), documented, "{heading}");
    }

    /// As soon as the first sample is noted; a new leader knows it as well.
    fn capacity(&mut self) -> Value {
        let begun = Instant::now();
        while self.cluster.json(&["admin", "capacity"])["samples"].as_array().unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nothing is noted");
            std::thread::sleep(Duration::from_millis(200));
        }
        self.cluster.cairn(&["admin", "masters", "transfer-leader"]);
        self.wait_for_disks();
        self.check("admin capacity", &["admin", "capacity"])
    }

    /// A leader knows disks from what their servers report: of one that dies before, it knows none.
    fn wait_for_disks(&self) {
        let begun = Instant::now();
        let is_known = |server: &Value| !server["disks"].as_array().unwrap().is_empty();
        while !self.cluster.json(&["admin", "servers"]).as_array().unwrap().iter().all(is_known) {
            assert!(begun.elapsed() < Duration::from_secs(30), "a server tells nothing of its disks");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What people see fits a screen.
    fn narrow(&self, arguments: &[&str]) {
        let text = self.cluster.cairn(arguments);
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty() && !text.is_empty(), "{arguments:?}: {wide:#?}");
    }
}

impl Shapes {
    /// Answers how the disk of the server is named.
    fn check_drain(&mut self, servers: &Value, number: &Value) -> String {
        let server = servers.as_array().unwrap().iter().find(|server| &server["server"] == number).unwrap();
        let (disk, path) = (&server["disks"][0]["disk"], &server["disks"][0]["path"]);
        let name = format!("{number}:{}", disk.as_str().unwrap());
        let plan = self.check("admin drain", &["admin", "drain", &name, "plan"]);
        assert_eq!((&plan["disk"], &plan["path"]), (disk, path));
        self.check_value("admin drain / targets", &plan["targets"][0]);
        let whole = self.cluster.json(&["admin", "drain", &number.to_string(), "plan"]);
        assert_eq!((fields(&whole), &whole["disk"]), (fields(&plan), &Value::Null));
        name
    }

    /// Whoever asks while nobody can lead waits, and tells.
    fn check_slow(&mut self) {
        let (stopped, path) = (["master-1", "master-2"], self.cluster.mount().join("made late"));
        stopped.iter().for_each(|name| self.cluster.kill(name));
        let maker = std::thread::spawn(move || fs::create_dir(path).unwrap());
        std::thread::sleep(Duration::from_millis(800));
        stopped.iter().for_each(|name| self.cluster.start(name));
        maker.join().unwrap();
        let begun = Instant::now();
        while self.cluster.json(&["admin", "slow"]).as_array().unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(200));
        }
        let slow = self.check("admin slow", &["admin", "slow"]);
        self.check_value("admin slow / hops", &slow[0]["hops"][0]);
    }
}

#[test]
fn fields_are_as_documented_and_screens_fit() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 3, replicas: 2 });
    fs::write(cluster.mount().join("f"), vec![7; 300_000]).unwrap();
    let file = fs::File::create(cluster.mount().join("held")).unwrap();
    let mut shapes = Shapes { cluster, documented: documented() };
    let status = shapes.check("admin status", &["admin", "status"]);
    assert_eq!(status["server_states"], serde_json::json!({ "alive": 3 }));
    assert_eq!(status["disk_states"], serde_json::json!({ "healthy": 3 }));
    assert_eq!(status["master_states"]["leader"], 1);
    assert_eq!(status["chunks_whole"], status["chunks"], "{status:#}");
    assert_eq!(status["copies_exact"], true);
    shapes.check("admin masters", &["admin", "masters"]);
    let processes: Value = serde_json::from_str(&shapes.cluster.dev(&["ps", "--json"])).unwrap();
    shapes.check_value("dev ps", &processes[0]);
    let servers = shapes.check("admin servers", &["admin", "servers"]);
    shapes.check_value("admin servers / disks", &servers[0]["disks"][0]);
    let chunks = shapes.check("admin chunks", &["admin", "chunks", "/f"]);
    shapes.check_value("admin chunks / replicas", &chunks[0]["replicas"][0]);
    let disk = shapes.check_drain(&servers, &chunks[0]["replicas"][0]["server"]);
    shapes.check("admin events", &["admin", "events"]);
    shapes.check_slow();
    shapes.check("admin why", &["admin", "why", "/held"]);
    drop(file);
    let capacity = shapes.capacity();
    shapes.check_value("admin capacity / servers", &capacity["servers"][0]);
    shapes.check_value("admin capacity / samples", &capacity["samples"][0]);
    let policies = shapes.check("admin policy list", &["admin", "policy", "list"]);
    shapes.check_value("admin policy list / policies", &policies["policies"][0]);
    assert_eq!(policies["policies"], capacity["policies"]);
    assert_eq!(capacity["outlook"], "too little history");
    assert!(capacity["samples"][0]["total_bytes"].as_u64().unwrap() > 0, "{capacity:#}");

    let server = chunks[0]["replicas"][0]["server"].as_u64().unwrap();
    let others = (1..=3).filter(|name| {
        let address = shapes.cluster.process(&format!("chunkserver-{name}")).address;
        servers.as_array().unwrap().iter().any(|row| row["server"] == server && row["address"] == address)
    });
    for name in others.collect::<Vec<_>>() {
        shapes.cluster.kill(&format!("chunkserver-{name}"));
    }
    let short = loop {
        let status = shapes.cluster.json(&["admin", "status"]);
        if status["servers_alive"] == 2 {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let with_one = short["chunks_short"]["1"].as_u64().unwrap_or_else(|| panic!("{short:#}"));
    assert_eq!(short["chunks_whole"].as_u64().unwrap() + with_one, short["chunks"].as_u64().unwrap());
    for view in ["status", "masters", "servers", "events", "capacity"] {
        shapes.narrow(&["admin", view]);
    }
    for verb in ["plan", "start", "status", "cancel"] {
        shapes.narrow(&["admin", "drain", &disk, verb]);
        shapes.narrow(&["admin", "status"]);
        shapes.narrow(&["admin", "servers"]);
    }
    let (name, label) = ("n".repeat(63), format!("media={}", "s".repeat(63)));
    shapes.cluster.cairn(&["admin", "policy", "create", &name, "--replicas", "3", "--require", &label]);
    shapes.narrow(&["admin", "policy", "list"]);
    shapes.narrow(&["admin", "capacity"]);
    shapes.narrow(&["admin", "chunks", "/"]);
    shapes.narrow(&["admin", "why", "/f"]);
    assert!(shapes.documented.is_empty(), "documented and not checked: {:?}", shapes.documented.keys());
}
