//! Masters that die under running applications: nobody sees an error, nothing acknowledged is lost or done twice.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::cairn_binary;
use cairn_tests::history::History;
use cairn_tests::load::{Load, number, report};
use cairn_tests::spread::is_mounted;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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
    let history = History::start(&mounts);
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
        history.wait_for_all();
        stalls.push(load.longest());
    }
    // Asked of those who answer, not waited for.
    assert!(cluster.log("mount").contains("another master leads"), "a silent leader was not doubted");
    let operations = load.finish_and_verify(&mounts);
    let (writes, reads) = history.finish();
    println!("frozen leader: {writes} writes and {reads} reads of registers");
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

/// A mount that dies with what it holds.
struct Doomed {
    process: Child,
    point: PathBuf,
    held: Vec<File>,
}

/// What synced bytes of the doomed mount's files are.
const SYNCED: [u8; 4096] = [3; 4096];
/// What another mount does to them, each to a file of its own: one that is open there, written since it was synced.
const CONFLICTS: [&str; 6] = ["write", "append", "truncate", "rename", "unlink", "read"];

impl Doomed {
    fn start(cluster: &Cluster) -> Self {
        let point = cluster.root().join("doomed");
        fs::create_dir_all(&point).unwrap();
        let mut command = Command::new(cairn_binary());
        command.args(["mount", &cluster.masters()]).arg(&point).arg("--foreground");
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let doomed = Self { process, point, held: Vec::new() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_mounted(&doomed.point) {
            assert!(Instant::now() < deadline, "it does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        doomed
    }

    /// Holds write leases with unsynced bytes, files that are not on record yet, and a directory that it has listed.
    fn hold(&mut self, directory: &str) {
        let directory = self.point.join(directory);
        fs::create_dir(&directory).unwrap();
        for name in CONFLICTS {
            let file = File::create(directory.join(name)).unwrap();
            file.write_all_at(&SYNCED, 0).unwrap();
            file.sync_all().unwrap();
            file.write_all_at(&[4; 9000], 4096).unwrap();
            self.held.push(file);
            let new = File::create(directory.join(format!("{name}-new"))).unwrap();
            new.write_all_at(&[5; 100], 0).unwrap();
            self.held.push(new);
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2 * CONFLICTS.len());
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
        if is_mounted(&self.point) {
            unmount(&self.point, UnmountFlags::DETACH).unwrap();
        }
    }
}

/// One conflict, seen from a mount that lives. What had been synced is there.
fn conflict(directory: &Path, name: &str) {
    let path = directory.join(name);
    let open = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
    match name {
        "write" => {
            let file = open();
            file.write_all_at(&[6; 100], 4096).unwrap();
            file.sync_all().unwrap();
        }
        "append" => {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(&[6; 100]).unwrap();
            file.sync_all().unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes[bytes.len() - 100..], [6; 100]);
        }
        "truncate" => open().set_len(4096).unwrap(),
        "rename" => fs::rename(&path, directory.join("renamed")).unwrap(),
        "unlink" => fs::remove_file(&path).unwrap(),
        _ => {}
    }
    fs::write(directory.join(format!("{name}-new")), "ours").unwrap();
    match name {
        "rename" => assert!(fs::read(directory.join("renamed")).unwrap().starts_with(&SYNCED)),
        "unlink" => assert!(!path.exists()),
        _ => assert!(fs::read(&path).unwrap().starts_with(&SYNCED)),
    }
}

/// Everything that conflicts, at the same time; how long each took.
fn conflicts(mounts: &[PathBuf], directory: &str) -> Vec<(&'static str, Duration)> {
    let begun = Instant::now();
    let mut threads = Vec::new();
    for (at, name) in CONFLICTS.into_iter().enumerate() {
        let directory = mounts[at % mounts.len()].join(directory);
        let act = move || {
            conflict(&directory, name);
            (name, begun.elapsed())
        };
        threads.push(std::thread::spawn(act));
    }
    let listed = mounts[0].join(directory);
    let list = move || {
        // At least what stays under its name; renamed and removed ones are on their way.
        assert!(fs::read_dir(&listed).unwrap().count() >= 2 * CONFLICTS.len() - 1);
        ("list", begun.elapsed())
    };
    threads.push(std::thread::spawn(list));
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn what_a_mount_held_that_died_with_the_leader_is_free_again() {
    let rounds = number("CAIRN_DOOMED").unwrap_or(2);
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 61);
    let (mut stalls, mut waits) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut doomed = Doomed::start(&cluster);
        let directory = format!("doomed-{round}");
        doomed.hold(&directory);
        load.wait_for_all();
        let leader = cluster.leader();
        let pid = Pid::from_raw(cluster.process(&leader).pid.unwrap()).unwrap();
        load.longest();
        doomed.process.kill().unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let took = conflicts(&mounts, &directory);
        println!("kill {round} of {leader} and a mount: {took:.3?}");
        waits.push(took.iter().map(|(_, took)| *took).max().unwrap());
        load.wait_for_all();
        stalls.push(load.longest());
        drop(doomed);
        cluster.start(&leader);
    }
    let operations = load.finish_and_verify(&mounts);
    report("leader and a mount killed, what the mount held", waits, operations);
    report("leader and a mount killed, everything else", stalls, operations);
}
