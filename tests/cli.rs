//! The command line: file verbs, operator commands, and what it says when something is wrong.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::{Process, cairn_binary, test_dir};
use cairn_tests::corpus::{bytes, fingerprints, make_tree};
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::time::Duration;

fn cairn(arguments: &[&str]) -> Output {
    Command::new(cairn_binary()).args(arguments).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn file_verbs_do_what_their_names_say() {
    let cluster = Cluster::up(ClusterOptions::default());
    let local = test_dir();
    make_tree(&local.path().join("t"), 3, 120);
    let source = local.path().join("t");
    let source = source.to_str().unwrap();

    cluster.cairn(&["mkdir", "-p", "/a/b/c"]);
    cluster.cairn(&["put", "-r", source, "/a"]);
    let back = local.path().join("back");
    cluster.cairn(&["get", "-r", "/a/t", back.to_str().unwrap()]);
    let files = |top: &std::path::Path| fingerprints(top).into_keys().collect::<Vec<_>>();
    assert_eq!(files(&local.path().join("t")), files(&back));

    let text = local.path().join("text");
    fs::write(&text, bytes(1, 3_000_000)).unwrap();
    cluster.cairn(&["put", text.to_str().unwrap(), "/x"]);
    cluster.cairn(&["cp", "/x", "/y"]);
    let output = cluster.try_cairn(&["cat", "/y"]);
    assert!(output.stdout == bytes(1, 3_000_000));
    cluster.cairn(&["mv", "/y", "/a/b"]);
    cluster.cairn(&["chmod", "u+x,go-r", "/a/b/y"]);
    cluster.cairn(&["ln", "-s", "/a/b/y", "/s"]);
    cluster.cairn(&["ln", "/a/b/y", "/hard"]);
    cluster.cairn(&["touch", "/new"]);
    cluster.cairn(&["truncate", "-s", "10", "/new"]);
    let stat = cluster.json(&["stat", "/a/b/y", "/s", "/new"]);
    assert_eq!(stat[0]["mode"], "0700");
    assert_eq!(stat[0]["links"], 2);
    assert_eq!(stat[1]["kind"], "symlink");
    assert_eq!(stat[2]["size"], 10);
    assert!(cluster.cairn(&["ls", "/"]).lines().eq(["a", "hard", "new", "s", "x"]));
    assert!(cluster.cairn(&["ls", "-l", "/x"]).starts_with("-rw-"));
    assert!(cluster.cairn(&["tree", "-L", "1", "/a"]).contains("b/"));
    assert!(cluster.json(&["du", "-s", "/"])[0]["bytes"].as_u64().unwrap() > 6_000_000);
    assert!(cluster.json(&["df"])["total_bytes"].as_u64().unwrap() > 0);
    cluster.cairn(&["rm", "-r", "/a"]);
    cluster.cairn(&["rm", "-f", "/x", "/s", "/hard", "/new", "/none"]);
    assert_eq!(cluster.cairn(&["ls", "/"]), "");
    let missing = cluster.try_cairn(&["cat", "/none"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(errors(&missing).contains("/none"), "{}", errors(&missing));
}

#[test]
fn services_take_all_descriptors_that_they_may_have() {
    let cluster = Cluster::up(ClusterOptions::default());
    let root = cluster.root().to_str().unwrap().to_owned();
    for name in ["master-1", "chunkserver-1", "mount"] {
        cluster.stop(name);
        let few = "ulimit -S -n 200 && exec \"$@\"";
        let binary = cairn_binary();
        let mut start = Command::new("sh");
        start.args(["-c", few, "sh", binary.to_str().unwrap(), "dev", "start", name, "--root", &root]);
        let output = start.output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        let pid = cluster.process(name).pid.unwrap();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut columns = files.split_whitespace().skip(3);
        assert_eq!(columns.next(), columns.next(), "{name}: soft and hard: {files}");
    }
}

/// Whether sched_setattr(2) takes slices for ordinary threads, since 6.12.
fn kernel_grants_slices() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(12)) && Path::new("/proc/self/sched").exists()
}

#[test]
fn threads_of_services_run_in_short_slices() {
    if !kernel_grants_slices() {
        println!("this kernel grants no slices: nothing to look at");
        return;
    }
    let cluster = Cluster::up(ClusterOptions::default());
    for name in ["master-1", "chunkserver-1", "mount"] {
        let pid = cluster.process(name).pid.unwrap();
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            // Some end at any moment.
            let Ok(shown) = fs::read_to_string(thread.unwrap().path().join("sched")) else { continue };
            let slice = shown.lines().find(|line| line.starts_with("se.slice")).unwrap();
            assert!(slice.ends_with(" 100000"), "{name}: {slice} in {}", shown.lines().next().unwrap());
        }
    }
}

#[test]
fn operators_see_servers_chunks_and_health() {
    let cluster = Cluster::up(ClusterOptions { replicas: 2, ..ClusterOptions::default() });
    let moved = cluster.try_dev(&["up", "--address", "127.0.0.1"]);
    assert!(errors(&moved).contains("--address 127."), "{}", errors(&moved));
    fs::write(cluster.mount().join("f"), bytes(2, 1_000_000)).unwrap();
    let status = cluster.json(&["admin", "status"]);
    assert_eq!(status["servers_alive"], 3);
    assert_eq!(status["default_replicas"], 2);
    let servers = cluster.json(&["admin", "servers"]);
    assert_eq!(servers.as_array().unwrap().len(), 3);
    assert!(servers.as_array().unwrap().iter().all(|server| server["state"] == "alive"), "{servers}");
    let chunks = cluster.json(&["admin", "chunks", "/"]);
    let replicas = chunks[0]["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 2);
    assert!(replicas.iter().all(|replica| replica["state"] == "current"), "{chunks}");
    assert_eq!(chunks[0]["path"], "/f");
    let masters = cluster.json(&["admin", "masters"]);
    assert_eq!(masters[0]["leader"], true);
    let leaders = cluster.dev(&["ps", "--json"]);
    assert!(leaders.contains("\"leader\": true"), "{leaders}");

    cluster.kill("chunkserver-2");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let status = cluster.json(&["admin", "status"]);
    assert_eq!(status["servers_alive"], 2);
    assert!(!status["warnings"].as_array().unwrap().is_empty(), "{status}");
}

#[test]
fn what_is_wrong_is_said_with_the_way_out() {
    let usage = cairn(&["frobnicate"]);
    assert_eq!(usage.status.code(), Some(2));

    let nobody = cairn(&["--masters", "127.0.0.1:9", "ls", "/"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(errors(&nobody).contains("127.0.0.1:9"), "{}", errors(&nobody));

    let which = Command::new(cairn_binary()).args(["ls", "/"]).env_remove("CAIRN_MASTERS").output().unwrap();
    assert_eq!(which.status.code(), Some(2));
    assert!(errors(&which).contains("--masters"));

    // Addresses of another cluster in the environment do not disturb `dev`, whose option of that name takes a number.
    let empty = test_dir();
    let root = empty.path().to_str().unwrap();
    let confused = |masters: &str| {
        let mut command = Command::new(cairn_binary());
        command.args(["dev", "up", "--root", root, "--masters", masters, "--replicas", "9"]);
        errors(&command.env("CAIRN_MASTERS", "127.0.0.1:9").output().unwrap())
    };
    assert!(confused("127.0.0.1:9").contains("--replicas 9"), "{}", confused("127.0.0.1:9"));
    assert!(confused("many").contains("takes a number"), "{}", confused("many"));

    let outside = cairn(&["dev", "up", "--root", root, "--address", "192.0.2.1"]);
    assert!(errors(&outside).contains("loopback"), "{}", errors(&outside));

    let none = cairn(&["dev", "ps", "--root", root]);
    assert!(errors(&none).contains("cairn dev up"), "{}", errors(&none));

    for (verb, defaults) in [("master", "listen"), ("chunkserver", "listen")] {
        let config = empty.path().join("config.toml");
        fs::write(&config, "lisen = \"127.0.0.1:1\"\n").unwrap();
        let typo = cairn(&[verb, "--config", config.to_str().unwrap()]);
        assert_eq!(typo.status.code(), Some(1), "{verb}");
        assert!(
            errors(&typo).contains("lisen") && errors(&typo).contains("--print-config"),
            "{}",
            errors(&typo)
        );
        let printed = cairn(&[verb, "--print-config"]);
        assert!(String::from_utf8_lossy(&printed.stdout).contains(defaults), "{verb}");
    }
}

#[test]
fn a_port_in_use_and_a_foreign_directory_are_named() {
    let cluster = Cluster::up(ClusterOptions::default());
    let other = Cluster::up(ClusterOptions::default());
    let config = |cluster: &Cluster, name: &str| cluster.root().join(name).join("config.toml");

    let second = cairn(&["master", "--config", config(&cluster, "master-1").to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));

    // A chunk server of one cluster pointed at the masters of another.
    other.stop("chunkserver-1");
    let text = fs::read_to_string(config(&other, "chunkserver-1")).unwrap();
    fs::write(config(&other, "chunkserver-1"), text.replace(&other.masters(), &cluster.masters())).unwrap();
    let started = other.try_dev(&["start", "chunkserver-1"]);
    assert!(!started.status.success());
    assert!(errors(&started).contains("refuses this chunkserver"), "{}", errors(&started));
    let log = other.log("chunkserver-1");
    assert!(log.contains("cluster"), "{log}");
    assert_eq!(
        cluster.json(&["admin", "servers"]).as_array().unwrap().len(),
        3,
        "the stranger was not taken in"
    );

    // A newer format.
    cluster.stop("chunkserver-2");
    let disk = &cluster.process("chunkserver-2").data_dirs[0];
    let superblock = fs::read_dir(disk)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().contains("superblock"))
        .expect("a data directory has a superblock");
    fs::write(superblock, b"CRNSUPER garbage").unwrap();
    let started = cluster.try_dev(&["start", "chunkserver-2"]);
    assert!(errors(&started).contains("superblock"), "{}", errors(&started));
    assert!(cluster.log("chunkserver-2").contains("superblock"), "{}", cluster.log("chunkserver-2"));
}

#[test]
fn garbage_on_a_port_harms_nobody() {
    let cluster = Cluster::up(ClusterOptions::default());
    let mut addresses: Vec<String> = cluster.ps().into_iter().map(|process| process.address).collect();
    addresses.retain(|address| address.contains(':'));
    for address in &addresses {
        for seed in 0..20 {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut garbage = bytes(seed, 10_000);
            if seed % 3 == 0 {
                garbage[..4].copy_from_slice(b"CRNf");
            }
            // The server may close in the midst of it.
            drop(stream.write_all(&garbage));
        }
    }
    fs::write(cluster.mount().join("f"), bytes(4, 100_000)).unwrap();
    cluster.remount();
    assert!(fs::read(cluster.mount().join("f")).unwrap() == bytes(4, 100_000));
    assert!(cluster.ps().iter().all(|process| process.state == "running"));
}

#[test]
fn processes_are_listed_while_some_of_them_hang() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 1, replicas: 1 });
    let hung: Vec<Pid> = cluster.ps().iter().map(|row| Pid::from_raw(row.pid.unwrap()).unwrap()).collect();
    hung.iter().for_each(|&pid| kill_process(pid, Signal::STOP).unwrap());
    let root = cluster.root().to_owned();
    let (answer, answered) = channel();
    let listing = std::thread::spawn(move || {
        let root = root.to_str().unwrap();
        answer.send(cairn(&["dev", "ps", "--json", "--root", root])).unwrap();
    });
    let output = answered.recv_timeout(Duration::from_secs(10));
    hung.iter().for_each(|&pid| kill_process(pid, Signal::CONT).unwrap());
    listing.join().unwrap();
    let output = output.unwrap_or_else(|_| panic!("no answer within 10 s"));
    let rows: Vec<Process> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(rows.iter().all(|row| row.state == "running"), "{rows:?}");
    cluster.kill("mount");
    assert_eq!(cluster.process("mount").state, "dead");
}
