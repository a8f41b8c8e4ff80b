//! Masters that die under running applications: nobody sees an error, nothing acknowledged is lost or done twice.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::cairn_binary;
use cairn_tests::load::{Load, number, report};
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

fn cluster() -> (Cluster, Vec<PathBuf>) {
    let mut cluster = Cluster::up(ClusterOptions { masters: 3, replicas: 2, ..ClusterOptions::default() });
    let mounts = vec![cluster.mount(), cluster.second_mount()];
    (cluster, mounts)
}

#[test]
fn a_killed_leader_is_noticed_by_nobody() {
    let rounds = number("CAIRN_FAILOVERS").unwrap_or(5);
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 11);
    let mut stalls = Vec::new();
    for round in 0..rounds {
        load.wait_for_all();
        let leader = cluster.leader();
        load.longest();
        cluster.kill(&leader);
        load.wait_for_all();
        std::thread::sleep(Duration::from_millis(300));
        let stall = load.longest();
        println!("kill {round} of {leader}: longest stall {:.3} s", stall.as_secs_f64());
        stalls.push(stall);
        cluster.start(&leader);
    }
    let operations = load.finish_and_verify(&mounts);
    report("killed leader", stalls, operations);
}

#[test]
fn a_frozen_leader_answers_nothing_stale_when_it_wakes() {
    let rounds = number("CAIRN_FREEZES").unwrap_or(2);
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 23);
    let shared = mounts[0].join("shared");
    let file = File::create(&shared).unwrap();
    let mut stalls = Vec::new();
    for round in 0..rounds {
        load.wait_for_all();
        let leader = cluster.leader();
        let pid = Pid::from_raw(cluster.process(&leader).pid.unwrap()).unwrap();
        load.longest();
        kill_process(pid, Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_secs(5));
        // Written under the new leader, read through the other mount while the old one wakes.
        let mark = [round as u8; 16];
        file.write_all_at(&mark, round * 16).unwrap();
        file.sync_all().unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        let length = fs::metadata(mounts[1].join("shared")).unwrap().len();
        assert_eq!(length, (round + 1) * 16, "a stale answer");
        load.wait_for_all();
        stalls.push(load.longest());
    }
    let operations = load.finish_and_verify(&mounts);
    report("frozen leader", stalls, operations);
}

#[test]
fn the_lead_is_handed_over_at_an_orderly_stop_and_when_asked() {
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 51);
    let mut stalls = Vec::new();
    for round in 0..number("CAIRN_HAND_OVERS").unwrap_or(4) {
        load.wait_for_all();
        let leader = cluster.leader();
        load.longest();
        if round % 2 == 0 {
            cluster.stop(&leader);
        } else {
            cluster.cairn(&["admin", "masters", "transfer-leader"]);
        }
        assert_ne!(cluster.leader(), leader);
        load.wait_for_all();
        stalls.push(load.longest());
        cluster.start(&leader);
    }
    let operations = load.finish_and_verify(&mounts);
    report("lead handed over", stalls, operations);
}

#[test]
fn a_master_that_lost_its_directory_takes_no_part() {
    let (cluster, mounts) = cluster();
    let leader = cluster.leader();
    let lost = ["master-1", "master-2", "master-3"].into_iter().find(|name| *name != leader).unwrap();
    cluster.kill(lost);
    fs::remove_dir_all(&cluster.process(lost).data_dirs[0]).unwrap();
    let started = cluster.try_dev(&["start", lost]);
    assert!(!started.status.success(), "it has lost its vote, and what it had acknowledged");
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(said.contains("on record") && said.contains("replace"), "{said}");
    fs::write(mounts[0].join("still"), "here").unwrap();
    assert_eq!(fs::read(mounts[1].join("still")).unwrap(), b"here");
}

#[test]
fn a_mount_that_stops_without_masters_can_be_killed() {
    let cluster = Cluster::up(ClusterOptions::default());
    let used = File::create(cluster.mount().join("used")).unwrap();
    let mount = Pid::from_raw(cluster.process("mount").pid.unwrap()).unwrap();
    let master = Pid::from_raw(cluster.process("master-1").pid.unwrap()).unwrap();
    kill_process(master, Signal::KILL).unwrap();
    // Beyond what the kernel may believe without asking.
    std::thread::sleep(Duration::from_secs(3));
    kill_process(mount, Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill_process(mount, Signal::KILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir(format!("/proc/{}/task", mount.as_raw_nonzero()))
        .is_ok_and(|threads| threads.count() > 0)
    {
        assert!(Instant::now() < deadline, "the mount's process does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(used);
}

/// A process that kills all masters, and starts them again, as often as it is told.
struct Blackout {
    shell: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Blackout {
    fn prepare(cluster: &Cluster) -> Self {
        let dev = format!("{} dev", cairn_binary().display());
        let root = cluster.root().display();
        let pids = format!(
            "{dev} ps --root {root} --json | grep -A1 '\"role\": \"master\"' | grep -o '[0-9]*,$' | tr -d ,"
        );
        let script = format!(
            "while read round; do kill -9 $({pids}); {dev} up --root {root} >/dev/null && echo done || echo failed; done"
        );
        let mut shell = Command::new("sh");
        let mut shell =
            shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, answers) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        Self { shell, asks, answers }
    }

    fn strike(&mut self) {
        self.asks.write_all(b"now\n").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    }
}

impl Drop for Blackout {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

#[test]
fn masters_that_all_die_at_once_come_back_with_everything() {
    let rounds = number("CAIRN_BLACKOUTS").unwrap_or(2);
    let (cluster, mounts) = cluster();
    let mut blackout = Blackout::prepare(&cluster);
    let load = Load::start(&mounts, 37);
    let mut stalls = Vec::new();
    for _ in 0..rounds {
        load.wait_for_all();
        load.longest();
        // One command, begun before: a process that forks while nobody leads waits, because its child closes the files that
        // the workers have open, and closing records what they wrote.
        blackout.strike();
        load.wait_for_all();
        stalls.push(load.longest());
    }
    let operations = load.finish_and_verify(&mounts);
    report("all masters killed", stalls, operations);
}
