//! One disk of a chunk server is emptied and taken out, while applications go on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
const FILES: u64 = 300;

fn length(number: u64) -> usize {
    if number.is_multiple_of(16) { (5 << 20) + 123 } else { 20_000 + 100 * number as usize }
}

fn write_file(path: &Path, contents: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(contents).unwrap();
    file.sync_all().unwrap();
}

fn write_files(mount: &Path) {
    for number in 0..FILES {
        write_file(&mount.join(format!("f{number}")), &bytes(number, length(number)));
    }
}

fn read_file(mount: &Path, number: u64) {
    let read = fs::read(mount.join(format!("f{number}"))).unwrap();
    assert!(read == bytes(number, length(number)), "file {number}");
}

/// Programs that write and read, and accept no error.
struct Application {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Application {
    fn start(mount: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (one, other) = ((stop.clone(), mount.to_owned()), (stop.clone(), mount.to_owned()));
        let threads = vec![
            std::thread::spawn(move || make_and_read(&one.0, &one.1)),
            std::thread::spawn(move || append(&other.0, &other.1)),
        ];
        Self { stop, threads }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let rounds: Vec<u64> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        println!("rounds of the application: {rounds:?}");
    }
}

/// Makes files anew and reads the old ones.
fn make_and_read(stop: &AtomicBool, mount: &Path) -> u64 {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let path = mount.join(format!("new{}", rounds % 40));
        let contents = bytes(rounds, 50_000);
        write_file(&path, &contents);
        assert!(fs::read(&path).unwrap() == contents);
        read_file(mount, rounds * 7 % FILES);
        rounds += 1;
    }
    rounds
}

/// Appends to a log, which it reads back whole at the end.
fn append(stop: &AtomicBool, mount: &Path) -> u64 {
    let path = mount.join("log");
    let (mut log, mut written, mut rounds) = (File::create(&path).unwrap(), Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let piece = bytes(rounds, 3000);
        log.write_all(&piece).unwrap();
        written.extend(piece);
        if rounds % 8 == 0 {
            log.sync_data().unwrap();
        }
        rounds += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    log.sync_all().unwrap();
    assert!(fs::read(&path).unwrap() == written);
    rounds
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

/// The number by which the masters know a process.
fn number_of(cluster: &Cluster, name: &str) -> u64 {
    let address = cluster.process(name).address;
    let servers = cluster.json(&["admin", "servers"]);
    let found = servers.as_array().unwrap().iter().find(|server| server["address"] == address.as_str());
    count(found.unwrap(), "server")
}

/// As soon as the server has told its disks to whoever leads.
fn drain(cluster: &Cluster, disk: &str, verb: &str) -> Value {
    let begun = Instant::now();
    loop {
        let asked = cluster.try_cairn(&["--json", "admin", "drain", disk, verb]);
        if asked.status.success() {
            return serde_json::from_slice(&asked.stdout).unwrap();
        }
        let error = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(error.contains("not known at present") && begun.elapsed() < PATIENCE, "{error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The plan, as soon as the server has told of so many replicas.
fn plan(cluster: &Cluster, disk: &str, replicas_min: u64) -> Value {
    let begun = Instant::now();
    loop {
        let plan = drain(cluster, disk, "plan");
        if count(&plan, "replicas_left") >= replicas_min {
            return plan;
        }
        assert!(begun.elapsed() < PATIENCE, "{plan}");
    }
}

/// Waits for a drain; `strictly`: and sees that it costs no redundancy.
fn wait_until_empty(cluster: &Cluster, disk: &str, strictly: bool) {
    let begun = Instant::now();
    loop {
        if strictly {
            let status = cluster.json(&["admin", "status"]);
            assert_eq!(status["short_chunks"], 0, "{status}");
        }
        let state = drain(cluster, disk, "status");
        if state["state"] == "empty" {
            assert_eq!((&state["removable"], count(&state, "replicas_left")), (&Value::Bool(true), 0));
            return println!("empty after {:.1} s", begun.elapsed().as_secs_f64());
        }
        assert_eq!(state["state"], "draining", "{state}");
        assert!(begun.elapsed() < PATIENCE, "{state}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_until_whole(cluster: &Cluster) {
    let begun = Instant::now();
    loop {
        let status = cluster.json(&["admin", "status"]);
        let short = status["chunks_short"].as_object().unwrap().len();
        if short == 0 && status["corrupt_replicas"] == 0 && status["pending_reconciliations"] == 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Everything that a cluster promises, looked at with fresh eyes.
fn verify(cluster: &Cluster) {
    wait_until_whole(cluster);
    cluster.remount();
    (0..FILES).for_each(|number| read_file(&cluster.mount(), number));
    let checked = cluster.try_cairn(&["admin", "fsck"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let chunks = cluster.json(&["admin", "chunks", "/"]);
    for replica in chunks.as_array().unwrap().iter().flat_map(|chunk| chunk["replicas"].as_array().unwrap()) {
        assert_eq!(replica["state"], "current", "{replica}");
    }
}

fn edit_config(cluster: &Cluster, server: &str, edit: impl Fn(&str) -> String) {
    cluster.stop(server);
    let path: PathBuf = cluster.root().join(server).join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, edit(&text)).unwrap();
    cluster.start(server);
}

/// Disk 2 of the server has room for next to nothing.
fn fill_second_disk(cluster: &Cluster, server: &str) {
    edit_config(cluster, server, |text| format!("{}\ncapacity_mib = 1\n", text.trim_end()));
}

fn events(cluster: &Cluster) -> Vec<String> {
    let events = cluster.json(&["admin", "events"]);
    let drains = events.as_array().unwrap().iter().filter(|event| event["kind"] == "disk_drain");
    drains.map(|event| event["what"].as_str().unwrap().to_owned()).collect()
}

/// Leaders keep events in memory, each its own.
fn wait_for_event(cluster: &Cluster, wanted: &str) {
    let begun = Instant::now();
    while !events(cluster).iter().any(|what| what == wanted) {
        assert!(begun.elapsed() < PATIENCE, "{wanted}: {:?}", events(cluster));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_disk_with_room_beside_it_is_emptied_and_taken_out() {
    let cluster = Cluster::up_with_disks(ClusterOptions { masters: 3, chunkservers: 3, replicas: 3 }, 2);
    let mount = cluster.mount();
    write_files(&mount);
    let application = Application::start(&mount);
    let server = number_of(&cluster, "chunkserver-2");
    let disk = format!("{server}:disk-1");

    let plan = plan(&cluster, &disk, 50);
    let there = count(&plan, "replicas_left");
    let targets = plan["targets"].as_array().unwrap();
    assert!(plan["state"] == "serving" && count(&plan, "stuck") == 0, "{plan}");
    assert!(targets.len() == 1 && targets[0]["server"] == server, "{plan}");
    let told = cluster.cairn(&["admin", "drain", &disk, "start"]);
    assert!(
        told.lines().all(|line| line.chars().count() <= 80) && told.contains("is being emptied"),
        "{told}"
    );
    assert!(cluster.cairn(&["admin", "servers"]).contains("  draining "));
    cluster.kill(&cluster.leader());
    while count(&drain(&cluster, &disk, "status"), "replicas_left") + 10 > there {
        std::thread::sleep(Duration::from_millis(5));
    }
    cluster.kill("chunkserver-2");
    cluster.start("chunkserver-2");
    wait_until_empty(&cluster, &disk, false);
    wait_for_event(&cluster, "is empty");
    (1..=3).for_each(|number| cluster.start(&format!("master-{number}")));
    let told = cluster.cairn(&["admin", "drain", &disk, "status"]);
    assert!(told.contains("is empty") && told.contains("nothing is at risk"), "{told}");
    assert!(cluster.cairn(&["admin", "status"]).contains("draining"));
    wait_until_whole(&cluster);

    // Taken out; the application does not stop.
    edit_config(&cluster, "chunkserver-2", |text| {
        let (head, disks) = text.split_once("[[disks]]").unwrap();
        let (_, second) = disks.split_once("[[disks]]").unwrap();
        format!("{head}[[disks]]{second}")
    });
    fs::remove_dir_all(cluster.root().join("chunkserver-2/disk-1")).unwrap();
    let begun = Instant::now();
    while !cluster.json(&["admin", "status"])["disk_drains"].as_array().unwrap().is_empty()
        || !events(&cluster).iter().any(|what| what == "is off the record")
    {
        assert!(begun.elapsed() < PATIENCE, "{:?}", events(&cluster));
        std::thread::sleep(Duration::from_millis(100));
    }
    application.finish();
    verify(&cluster);
}

#[test]
fn what_the_other_disk_has_no_room_for_goes_to_other_servers() {
    let cluster = Cluster::up_with_disks(ClusterOptions { masters: 3, chunkservers: 4, replicas: 2 }, 2);
    fill_second_disk(&cluster, "chunkserver-3");
    let mount = cluster.mount();
    write_files(&mount);
    let server = number_of(&cluster, "chunkserver-3");
    let disk = format!("chunkserver-{server}:disk-1");
    let plan = plan(&cluster, &disk, 50);
    let targets = plan["targets"].as_array().unwrap();
    assert_eq!(count(&plan, "stuck"), 0, "{plan}");
    assert!(targets.len() == 3 && targets.iter().all(|to| to["server"] != server), "{plan}");
    let application = Application::start(&mount);
    cluster.cairn(&["admin", "drain", &disk, "start"]);
    // With two others: whoever starts a program closes, in its child, what the application has open, and that needs a master.
    let leader = cluster.leader();
    cluster.kill(&leader);
    cluster.start(&leader);
    wait_until_empty(&cluster, &disk, true);
    application.finish();
    verify(&cluster);
    let chunks = cluster.json(&["admin", "chunks", "/"]);
    let on_server = chunks.as_array().unwrap().iter().flat_map(|chunk| chunk["replicas"].as_array().unwrap());
    assert_eq!(on_server.filter(|replica| replica["server"] == server).count(), 0);
}

#[test]
fn a_drain_without_room_says_so_and_is_called_off() {
    let cluster = Cluster::up_with_disks(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 }, 2);
    fill_second_disk(&cluster, "chunkserver-1");
    let mount = cluster.mount();
    write_file(&mount.join("f"), &bytes(1, 100_000));
    let server = number_of(&cluster, "chunkserver-1");
    let disk = format!("{server}:disk-1");
    let plan = plan(&cluster, &disk, 1);
    assert!(count(&plan, "stuck") > 0, "{plan}");
    cluster.cairn(&["admin", "drain", &disk, "start"]);
    let begun = Instant::now();
    let mut told = String::new();
    while !told.replace('\n', " ").contains("can go nowhere at present") {
        assert!(begun.elapsed() < PATIENCE, "{told}");
        told = cluster.cairn(&["admin", "drain", &disk, "status"]);
    }
    // New files get their three copies all the same.
    write_file(&mount.join("g"), &bytes(2, 100_000));
    cluster.kill("master-1");
    cluster.start("master-1");
    let status = drain(&cluster, &disk, "status");
    assert!(status["state"] == "draining" && count(&status, "replicas_left") >= 2, "{status}");
    cluster.cairn(&["admin", "undrain", &disk]);
    let status = drain(&cluster, &disk, "status");
    assert!(status["state"] == "serving" && count(&status, "replicas_left") >= 2, "{status}");
    assert_eq!(events(&cluster).last().map(|what| what.starts_with("stays")), Some(true));
    assert_eq!(cluster.json(&["admin", "status"])["short_chunks"], 0);
    for (name, number) in [("f", 1), ("g", 2)] {
        assert!(fs::read(mount.join(name)).unwrap() == bytes(number, 100_000));
    }
    let missing = cluster.try_cairn(&["admin", "drain", &format!("{server}:nonsense"), "plan"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("has no disk \"nonsense\""));
    let missing = cluster.try_cairn(&["admin", "drain", &format!("{server}:{}", uuid::Uuid::nil()), "plan"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no such disk"));
}
