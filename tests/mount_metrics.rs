//! What a mount tells of itself at `/metrics` and `/readyz`, and how it is told where.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::cairn_binary;
use cairn_tests::pages::{self, Values};
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn now(cluster: &Cluster, series: &str) -> f64 {
    Values::of(cluster, "mount").get(&format!("cairn_mount_{series}"))
}

#[test]
fn what_programs_do_is_counted() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 2 });
    assert_eq!(pages::of(&cluster, "mount", "/healthz"), (200, "ok\n".to_owned()));
    let before = Values::of(&cluster, "mount");
    let folder = cluster.mount().join("d");
    fs::create_dir(&folder).unwrap();
    for number in 0..10 {
        fs::write(folder.join(format!("f{number}")), vec![number; 100_000]).unwrap();
    }
    assert_eq!(fs::remove_dir(&folder).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    let held = fs::File::open(folder.join("f1")).unwrap();
    let after = Values::of(&cluster, "mount");
    let grown = |series: &str| {
        let series = format!("cairn_mount_{series}");
        after.get(&series) - before.get(&series)
    };
    assert_eq!(grown("written_bytes_total"), 1_000_000.0);
    assert_eq!(grown("operations_total{kind=\"create\"}"), 10.0);
    assert_eq!(grown("operations_total{kind=\"mkdir\"}"), 1.0);
    assert_eq!(grown("operations_total{kind=\"rmdir\"}"), 1.0);
    assert_eq!(grown("errors_total{class=\"in_the_way\"}"), 1.0);
    assert_eq!(grown("errors_total{class=\"io\"}"), 0.0);
    // Nobody can create a file without asking the master.
    assert_eq!(grown("operation_wait_seconds_count{kind=\"create\"}"), 10.0);
    assert!(grown("operation_wait_seconds_sum{kind=\"create\"}") > 0.0);
    // The kernel says later that a file was closed.
    wait_until("one file is open", || now(&cluster, "open_files") == 1.0);
    drop(held);
    wait_until("no file is open", || now(&cluster, "open_files") == 0.0);

    // A new mount knows nothing, and then what it was told.
    cluster.remount();
    for name in ["f1", "f2"] {
        assert_eq!(fs::read(folder.join(name)).unwrap().len(), 100_000);
    }
    let values = Values::of(&cluster, "mount");
    assert_eq!(values.get("cairn_mount_read_bytes_total"), 200_000.0);
    assert!(values.get("cairn_mount_cache_misses_total{cache=\"names\"}") >= 1.0);
    assert!(values.get("cairn_mount_memory_budget_bytes{use=\"write\"}") >= f64::from(1 << 20));
    assert_eq!(values.wrong_histograms(), Vec::<String>::new());
}

#[test]
fn bytes_that_are_not_recorded_are_shown_until_they_are() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 2 });
    let address = cluster.process("mount").http.unwrap();
    // Recorded without being asked for after five seconds, and when a program that another test starts closes what it has inherited.
    let mut held = Vec::new();
    wait_until("written bytes are shown", || {
        let mut file = fs::File::create(cluster.mount().join(format!("f{}", held.len()))).unwrap();
        file.write_all(&vec![7; 3 << 20]).unwrap();
        let values = Values::read(&pages::get(&address, "/metrics").1);
        held.push(file);
        let bytes =
            ["unacknowledged", "unrecorded"].map(|what| values.get(&format!("cairn_mount_{what}_bytes")));
        let is_dirty = values.get("cairn_mount_dirty_files") == 1.0;
        held.iter().for_each(|file| file.sync_all().unwrap());
        is_dirty && bytes.iter().sum::<f64>() == f64::from(3 << 20)
    });
    let clean = ["unacknowledged_bytes", "unrecorded_bytes", "dirty_files"];
    assert_eq!(clean.map(|what| now(&cluster, what)), [0.0; 3]);
}

#[test]
fn a_mount_without_a_leader_is_not_ready() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 1, replicas: 1 });
    let (status, text) = pages::of(&cluster, "mount", "/readyz");
    assert!(status == 200 && text.contains("leads"), "{status} {text}");
    assert_eq!((now(&cluster, "leader_connected"), now(&cluster, "reconnects_total")), (1.0, 0.0));
    cluster.kill("master-1");
    wait_until("the mount notices", || now(&cluster, "leader_connected") == 0.0);
    let (status, text) = pages::of(&cluster, "mount", "/readyz");
    assert!(status == 503 && text.contains("cairn admin masters"), "{status} {text}");
    let silent = now(&cluster, "leader_silent_milliseconds");
    wait_until("silence grows", || now(&cluster, "leader_silent_milliseconds") > silent + 500.0);
    cluster.start("master-1");
    wait_until("the mount is back", || now(&cluster, "leader_connected") == 1.0);
    assert_eq!(pages::of(&cluster, "mount", "/readyz").0, 200);
    assert!(now(&cluster, "reconnects_total") >= 1.0);
    assert_eq!(["leader_changes_total", "sessions_lost_total"].map(|what| now(&cluster, what)), [0.0; 2]);
}

#[test]
fn servers_that_fail_or_hang_are_seen_from_the_mount() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 3, replicas: 3 });
    let path = |number: u32| cluster.mount().join(format!("f{number}"));
    (0..24).for_each(|number| fs::write(path(number), vec![number as u8; 50_000]).unwrap());
    cluster.remount();
    // Servers that are not known yet are asked first.
    let hung = cluster.process("chunkserver-1");
    let pid = Pid::from_raw(hung.pid.unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    (0..24).for_each(|number| assert_eq!(fs::read(path(number)).unwrap(), vec![number as u8; 50_000]));
    let values = Values::of(&cluster, "mount");
    kill_process(pid, Signal::CONT).unwrap();
    let asked_twice = values.get("cairn_mount_hedged_reads_total");
    assert!(asked_twice >= 1.0, "{values:#?}");
    assert!(values.get("cairn_mount_retry_budget_taken_total") >= 1.0, "{values:#?}");
    let breaker = |values: &Values, address: &str, state: &str| {
        values.get(&format!("cairn_mount_server_breaker{{server=\"{address}\",state=\"{state}\"}}"))
    };
    let states = ["closed", "half_open", "open"].map(|state| breaker(&values, &hung.address, state));
    assert_eq!(states.iter().sum::<f64>(), 1.0, "{states:?}");

    let dead = cluster.process("chunkserver-2");
    cluster.remount();
    // Once the master has noticed it names the server to nobody.
    let open: Vec<fs::File> = (0..24).map(|number| fs::File::open(path(number)).unwrap()).collect();
    cluster.kill("chunkserver-2");
    for (number, mut file) in open.into_iter().enumerate() {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![number as u8; 50_000]);
    }
    let values = Values::of(&cluster, "mount");
    assert_eq!(breaker(&values, &dead.address, "closed"), 0.0, "{values:#?}");
}

#[test]
fn damage_is_counted_where_it_is_met() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 2, replicas: 2 });
    let path = |number: u32| cluster.mount().join(format!("f{number}"));
    (0..8).for_each(|number| fs::write(path(number), vec![number as u8; 50_000]).unwrap());
    cluster.stop("mount");
    cluster.stop("chunkserver-1");
    assert!(cluster.flip_byte_of_replicas("chunkserver-1", 10_000) >= 8);
    cluster.start("chunkserver-1");
    cluster.start("mount");
    (0..8).for_each(|number| assert_eq!(fs::read(path(number)).unwrap(), vec![number as u8; 50_000]));
    assert!(now(&cluster, "checksum_mismatches_total{found_by=\"chunkserver\"}") >= 1.0);
}

#[test]
fn metrics_have_the_place_that_was_asked_for_or_none() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 1, replicas: 1 });
    let point = cluster.root().join("other");
    fs::create_dir(&point).unwrap();
    let mount = |arguments: &[&str]| -> Output {
        let mut command = Command::new(cairn_binary());
        command.args(["mount", &cluster.masters()]).arg(&point).args(arguments).output().unwrap()
    };
    let refused = |arguments: &[&str]| {
        let output = mount(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for arguments in
        [&["-o", &format!("metrics={port}")][..], &["-o", &format!("metrics={port}"), "--foreground"]]
    {
        let error = refused(arguments);
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("metrics=off"), "{error}");
    }
    let error = refused(&["-o", "metrics=everywhere"]);
    assert!(error.contains("HOST:PORT"), "{error}");
    drop(taken);

    let address = format!("127.0.0.1:{port}");
    assert!(mount(&["-o", &format!("metrics={address}")]).status.success());
    assert_eq!(pages::get(&address, "/readyz").0, 200);
    // The process that mounts looks at it first, and is in it while it does.
    let umount = || Command::new(cairn_binary()).arg("umount").arg(&point).status().unwrap().success();
    wait_until("it is unmounted", umount);
    wait_until("the port is free again", || TcpListener::bind(&address).is_ok());
    assert!(mount(&[]).status.success());
    assert!(TcpListener::bind(&address).is_ok());
    wait_until("it is unmounted", umount);

    // `dev up` gives its mount a place; who wants none says so.
    assert!(cluster.process("mount").http.is_some());
    cluster.stop("mount");
    cluster.dev(&["up", "-o", "metrics=off"]);
    assert_eq!(cluster.process("mount").http, None);
}
