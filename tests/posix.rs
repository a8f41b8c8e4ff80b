//! The suites that others wrote to catch file systems out: pjdfstest for what POSIX says, fsx for the bytes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::{suite, test_dir};
use cairn_tests::{Cluster, ClusterOptions};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Needs a remount of the file system under test (13), or asks for LINK_MAX of a mount made by FUSE (1).
const SKIPPED_MAX: u64 = 14;

/// Two users that every Debian has, so that none must be made.
const PJDFSTEST_CONFIG: &str = r#"
[features]
posix_fallocate = {}
utime_now = {}
utimensat = {}
rename_ctime = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// `Summary: 0 failed, 14 skipped, 384 passed, …`
fn count(summary: &str, what: &str) -> u64 {
    let (before, _) = summary.split_once(what).unwrap_or_else(|| panic!("no {what} in {summary:?}"));
    let number = before.split_whitespace().next_back().unwrap();
    number.parse().unwrap_or_else(|_| panic!("no number before {what} in {summary:?}"))
}

#[test]
fn pjdfstest_finds_nothing() {
    pjdfstest(&Cluster::up(ClusterOptions::default()), "pjdfstest");
}

/// Time between two kills.
const KILL_PERIOD: Duration = Duration::from_secs(5);

/// `CAIRN_POSIX_ROUNDS`: so often, on one cluster.
#[test]
fn pjdfstest_finds_nothing_while_leaders_are_killed() {
    let rounds = std::env::var("CAIRN_POSIX_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let cluster = Cluster::up(ClusterOptions { masters: 3, ..ClusterOptions::default() });
    let done = AtomicBool::new(false);
    let kills = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut kills = 0;
            while !done.load(Ordering::SeqCst) {
                let leader = cluster.leader();
                cluster.kill(&leader);
                kills += 1;
                cluster.start(&leader);
                std::thread::sleep(KILL_PERIOD);
            }
            kills
        });
        let suite = catch_unwind(AssertUnwindSafe(|| {
            (1..=rounds).for_each(|round: u32| pjdfstest(&cluster, &format!("round-{round}")));
        }));
        done.store(true, Ordering::SeqCst);
        let kills = killer.join().unwrap();
        suite.unwrap_or_else(|failure| resume_unwind(failure));
        kills
    });
    println!("pjdfstest: the leader was killed {kills} times meanwhile");
}

/// Runs the suite in a new directory of the cluster's mount.
fn pjdfstest(cluster: &Cluster, name: &str) {
    let pjdfstest = suite("pjdfstest");
    assert!(rustix::process::geteuid().is_root(), "pjdfstest changes users: run it as root");
    let (local, place) = (test_dir(), cluster.mount().join(name));
    fs::create_dir(&place).unwrap();
    // The suite goes there as other users too.
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    let config = local.path().join("pjdfstest.toml");
    fs::write(&config, PJDFSTEST_CONFIG).unwrap();
    let mut command = Command::new(pjdfstest);
    command.arg("-c").arg(&config).arg("-p").arg(&place).arg("-s").arg(local.path());
    let output = command.output().unwrap();

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let summary = text.lines().find(|line| line.starts_with("Summary:"));
    let summary =
        summary.unwrap_or_else(|| panic!("no summary of pjdfstest: {}\n{text}{errors}", output.status));
    println!("pjdfstest: {summary}");
    let notable: Vec<&str> = text.lines().filter(|line| !line.trim_end().ends_with(" ok")).collect();
    let notable = notable.join("\n");
    assert_eq!(count(summary, "failed"), 0, "{notable}");
    assert!(count(summary, "skipped") <= SKIPPED_MAX, "{notable}");
    assert!(count(summary, "passed") >= 384, "{notable}");
}

/// `CAIRN_FSX_OPERATIONS` makes it shorter or longer.
#[test]
fn fsx_finds_nothing() {
    let fsx = suite("fsx");
    let operations = std::env::var("CAIRN_FSX_OPERATIONS").unwrap_or_else(|_| "30000".to_owned());
    let cluster = Cluster::up(ClusterOptions::default());
    let artifacts = test_dir();
    // Without a configuration fsx reads, writes, truncates, and does the same through shared mappings, equally often.
    let runs: Vec<_> = (1..=3)
        .map(|seed: u32| {
            let mut command = Command::new(&fsx);
            command.args(["-N", &operations, "-S", &seed.to_string(), "-P"]).arg(artifacts.path());
            command.arg(cluster.mount().join(format!("fsx-{seed}")));
            (seed, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        })
        .collect();
    for (seed, run) in runs {
        let output = run.wait_with_output().unwrap();
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "fsx with seed {seed}: {}\n{text}{errors}", output.status);
        println!("fsx: {operations} operations with seed {seed}, no mismatch");
    }
}
