//! What `cairn admin events` tells of a cluster to which things happen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server is dead after ten seconds; the rest is copying.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each event as `kind component object what why`.
fn events(cluster: &Cluster, since: &str) -> Vec<String> {
    let all = cluster.json(&["admin", "events", "--since", since]);
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
    let line = |event: &serde_json::Value| {
        ["kind", "component", "object", "what", "why"].map(|key| text(event, key)).join(" ")
    };
    all.as_array().unwrap().iter().map(line).collect()
}

/// Waits until an event contains all of `words`, and returns where it stands.
fn wait_for(cluster: &Cluster, words: &[&str]) -> usize {
    let begun = Instant::now();
    loop {
        let events = events(cluster, "1h");
        if let Some(at) = events.iter().position(|event| words.iter().all(|word| event.contains(word))) {
            return at;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing with {words:?} in {events:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn what_happens_to_a_cluster_is_told_with_reasons() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 4, replicas: 3 });
    for number in 0..24 {
        fs::write(cluster.mount().join(format!("f{number}")), bytes(number, 200_000)).unwrap();
    }
    wait_for(&cluster, &["lead_taken", "leads in term-"]);
    let mut follower = Command::new(cairn_tests::cluster::cairn_binary())
        .args(["--masters", &cluster.masters(), "admin", "events", "--follow", "--since", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    cluster.kill("chunkserver-2");
    let down = wait_for(&cluster, &["server_state chunkserver-", "-> down", "its connection has ended"]);
    let dead = wait_for(&cluster, &["server_state chunkserver-", "down -> dead", "silent for 10."]);
    let begun = wait_for(&cluster, &["repair_begun cluster repair"]);
    let ended = wait_for(&cluster, &["repair_ended cluster repair", " 0 attempts failed"]);
    assert!(down < dead && dead < begun && begun < ended, "{:#?}", events(&cluster, "1h"));
    cluster.start("chunkserver-2");
    wait_for(&cluster, &["server_state chunkserver-", "dead -> alive"]);

    damage_replicas(&cluster);
    let bad = wait_for(&cluster, &["replicas_bad chunkserver-", "corrupt"]);
    let healed = wait_for(&cluster, &["replicas_healed chunkserver-"]);
    assert!(bad < healed);

    // A follower that looks once a second has seen what this leader keeps.
    std::thread::sleep(Duration::from_secs(3));
    let leader = cluster.leader();
    let to = if leader == "master-1" { "2" } else { "1" };
    cluster.cairn(&["admin", "masters", "transfer-leader", to]);
    wait_for(&cluster, &["lead_taken", &format!("master-{to}"), "leads in term-"]);
    assert!(
        !events(&cluster, "1h").iter().any(|event| event.contains("down -> dead")),
        "those are the former's"
    );
    assert!(events(&cluster, "2100-01-01T00:00:00Z").is_empty());

    let text = cluster.cairn(&["admin", "events"]);
    assert!(
        text.contains("seen by master-") && text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    std::thread::sleep(Duration::from_secs(3));
    follower.kill().unwrap();
    let mut followed = String::new();
    follower.stdout.take().unwrap().read_to_string(&mut followed).unwrap();
    follower.wait().unwrap();
    // Lines are broken where they are long.
    let flat = followed.split_whitespace().collect::<Vec<_>>().join(" ");
    let once = ["down -> dead", "dead -> alive", &format!("master-{to} leads")];
    once.iter().for_each(|word| assert_eq!(flat.matches(word).count(), 1, "{word} in {followed}"));
    assert!(flat.contains("found corrupt") && flat.contains(" healed"), "{followed}");
}

/// Damages a block of each replica of a server, and reads them there.
fn damage_replicas(cluster: &Cluster) {
    let name = "chunkserver-1";
    cluster.stop(name);
    cluster.flip_byte_of_replicas(name, 5000);
    cluster.start(name);
    cluster.remount();
    // While the others are frozen every file is looked for on the damaged server.
    let signal = |signal| {
        for other in ["chunkserver-2", "chunkserver-3", "chunkserver-4"] {
            kill_process(cluster.process(other).pid.and_then(Pid::from_raw).unwrap(), signal).unwrap();
        }
    };
    signal(Signal::STOP);
    std::thread::scope(|scope| {
        for number in 0..24 {
            let path = cluster.mount().join(format!("f{number}"));
            scope.spawn(move || assert!(fs::read(path).unwrap() == bytes(number, 200_000)));
        }
        std::thread::sleep(Duration::from_secs(3));
        signal(Signal::CONT);
    });
}
