//! Chunk servers that are emptied, removed and come back as strangers, while applications go on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DRAINED: Duration = Duration::from_secs(90);
const FILES: u64 = 300;

fn length(number: u64) -> usize {
    if number.is_multiple_of(16) { (5 << 20) + 123 } else { 20_000 + 100 * number as usize }
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

/// A program that makes files anew and reads the old ones, and accepts no error.
struct Application {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Application {
    fn start(mount: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !stopping.load(Ordering::Relaxed) {
                let path = mount.join(format!("new{}", rounds % 40));
                let contents = bytes(rounds, 50_000);
                let mut file = File::create(&path).unwrap();
                file.write_all(&contents).unwrap();
                file.sync_all().unwrap();
                assert!(fs::read(&path).unwrap() == contents);
                let number = rounds * 7 % FILES;
                let read = fs::read(mount.join(format!("f{number}"))).unwrap();
                assert!(read == bytes(number, length(number)), "file {number}");
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread }
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The number by which the masters know a process.
fn number_of(cluster: &Cluster, name: &str) -> String {
    let address = cluster.process(name).address;
    let servers = cluster.json(&["admin", "servers"]);
    let found = servers.as_array().unwrap().iter().find(|server| server["address"] == address.as_str());
    found.unwrap()["server"].to_string()
}

fn known(cluster: &Cluster) -> usize {
    cluster.json(&["admin", "servers"]).as_array().unwrap().len()
}

/// Waits for a drain, and sees that it costs no redundancy.
fn wait_until_empty(cluster: &Cluster, server: &str) {
    let begun = Instant::now();
    loop {
        let status = cluster.json(&["admin", "status"]);
        assert_eq!(status["short_chunks"], 0, "{status}");
        let drain = cluster.json(&["admin", "drain", server, "status"]);
        if drain["state"] == "empty" {
            assert_eq!(drain["removable"], true);
            return println!("empty after {:.1} s", begun.elapsed().as_secs_f64());
        }
        assert_eq!(drain["state"], "draining");
        assert!(begun.elapsed() < DRAINED, "{drain}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

#[test]
fn a_drained_server_is_removed_and_its_machine_joins_anew() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 5, replicas: 3 });
    let mount = cluster.mount();
    write_files(&mount);
    let application = Application::start(mount.clone());
    let server = number_of(&cluster, "chunkserver-2");
    assert!(!cluster.try_cairn(&["admin", "servers", "remove", &server]).status.success(), "it is needed");

    let plan = cluster.json(&["admin", "drain", &server, "plan"]);
    let (there, targets) = (count(&plan, "replicas_left"), plan["targets"].as_array().unwrap());
    assert!(there > 100 && targets.len() == 4 && plan["state"] == "serving", "{plan}");
    let planned: u64 = targets.iter().map(|target| count(target, "replicas")).sum();
    assert!(planned + 50 > there && count(&plan, "stuck") == 0, "{plan}");
    let without = cluster.json(&["admin", "whatif", "lose", &server]);
    assert!(without["fits"] == true && count(&without, "unreadable") == 0, "{without}");
    assert!(without["by_copies_left"][2].as_u64().unwrap() >= there - 50, "{without}");
    cluster.cairn(&["admin", "drain", &server, "start"]);
    while count(&cluster.json(&["admin", "drain", &server, "status"]), "replicas_left") + 20 > there {
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.kill(&cluster.leader());
    wait_until_empty(&cluster, &server);
    assert!(!cluster.try_cairn(&["admin", "servers", "remove", &server]).status.success(), "it runs");
    cluster.stop("chunkserver-2");
    cluster.cairn(&["admin", "servers", "remove", &server]);
    assert_eq!(known(&cluster), 4);
    (1..=3).for_each(|number| cluster.start(&format!("master-{number}")));

    // The machine comes back with empty disks, and is another server.
    for disk in cluster.process("chunkserver-2").data_dirs {
        fs::remove_dir_all(&disk).unwrap();
    }
    cluster.start("chunkserver-2");
    let fresh = number_of(&cluster, "chunkserver-2");
    assert!(fresh != server && known(&cluster) == 5, "{fresh}");
    println!("{} rounds of the application", application.finish());
    cluster.remount();
    read_files(&mount);
    let checked = cluster.try_cairn(&["admin", "fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn a_drain_that_nobody_can_take_over_says_so_and_harms_nothing() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    let mount = cluster.mount();
    fs::write(mount.join("f"), bytes(1, 100_000)).unwrap();
    File::open(mount.join("f")).unwrap().sync_all().unwrap();
    let plan = cluster.json(&["admin", "drain", "chunkserver-1", "plan"]);
    let there = count(&plan, "replicas_left");
    assert!(there > 0 && count(&plan, "stuck") == there && count(&plan, "needed") == there, "{plan}");
    let without = cluster.json(&["admin", "whatif", "lose", "1"]);
    assert!(without["fits"] == false && count(&without, "cannot_be_whole") == there, "{without}");
    assert!(
        !cluster.try_cairn(&["admin", "whatif", "lose", "rack=7"]).status.success(),
        "nobody has that label"
    );
    let told = cluster.cairn(&["admin", "drain", "1", "start"]);
    assert!(told.contains("can go nowhere"), "{told}");
    // New files get their three copies all the same.
    fs::write(mount.join("g"), bytes(2, 100_000)).unwrap();
    File::open(mount.join("g")).unwrap().sync_all().unwrap();
    cluster.kill("master-1");
    cluster.start("master-1");
    let status = cluster.json(&["admin", "drain", "1", "status"]);
    assert!(status["state"] == "draining" && count(&status, "replicas_left") >= 2, "{status}");
    cluster.cairn(&["admin", "undrain", "1"]);
    let status = cluster.json(&["admin", "drain", "1", "status"]);
    assert_eq!(status["state"], "serving", "{status}");
    assert_eq!(cluster.json(&["admin", "status"])["short_chunks"], 0);
    let missing = cluster.try_cairn(&["admin", "drain", "77", "plan"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no such chunk server"));
}
