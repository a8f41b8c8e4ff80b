//! Programs that wait for data whose servers are away.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The mount would let them wait for a minute.
const PATIENCE: Duration = Duration::from_secs(15);

fn dd(arguments: &[&str]) -> Child {
    Command::new("dd").args(arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// Whoever waits for data can be killed: while it reads, while it syncs, and while its files are closed.
#[test]
fn a_program_that_waits_for_data_can_be_killed() {
    let cluster = Cluster::up(ClusterOptions::default());
    let mount = cluster.mount();
    std::fs::write(mount.join("f"), bytes(1, 4 << 20)).unwrap();
    cluster.remount();
    let servers = ["chunkserver-1", "chunkserver-2", "chunkserver-3"];
    servers.iter().for_each(|name| cluster.kill(name));
    let (from, to) = (option("if", &mount.join("f")), option("of", &mount.join("g")));
    let mut waiting = [
        dd(&[&from, "of=/dev/null", "bs=1M", "iflag=direct"]),
        dd(&["if=/dev/zero", &to, "bs=1M", "count=4", "conv=fsync"]),
        dd(&["if=/dev/zero", &option("of", &mount.join("h")), "bs=1M", "count=200"]),
    ];
    std::thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    for child in &mut waiting {
        assert!(child.try_wait().unwrap().is_none(), "it waits");
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    }
    for (number, child) in waiting.iter_mut().enumerate() {
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "program {number} cannot be killed");
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("program {number} has ended after {:.1} s", begun.elapsed().as_secs_f64());
    }
    servers.iter().for_each(|name| cluster.start(name));
    assert!(std::fs::read(mount.join("f")).unwrap() == bytes(1, 4 << 20));
}
