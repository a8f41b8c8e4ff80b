//! Replicas are spread over the failure domains that chunk servers are configured to stand in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::{Cluster, ClusterOptions};
use std::collections::BTreeMap;
use std::fs;

#[test]
fn replicas_stand_in_different_racks() {
    let cluster = Cluster::up(ClusterOptions { masters: 1, chunkservers: 5, replicas: 3 });
    let racks = ["a", "a", "a", "b", "c"];
    for (number, rack) in (1..).zip(racks) {
        let name = format!("chunkserver-{number}");
        cluster.stop(&name);
        let file = cluster.root().join(&name).join("config.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("labels = [\"rack={rack}\", \"host=h{number}\"]\n{text}")).unwrap();
        cluster.start(&name);
    }
    // A mount has some chunks ready that were placed before.
    cluster.remount();
    let servers = cluster.json(&["admin", "servers"]);
    let rack_of: BTreeMap<u64, String> = servers
        .as_array()
        .unwrap()
        .iter()
        .map(|server| {
            let labels = server["labels"].as_array().unwrap();
            let rack = labels.iter().find_map(|label| label.as_str().unwrap().strip_prefix("rack="));
            (server["server"].as_u64().unwrap(), rack.unwrap().to_owned())
        })
        .collect();
    for number in 0..40 {
        fs::write(cluster.mount().join(format!("f{number}")), vec![number; 20_000]).unwrap();
    }
    std::process::Command::new("sync").arg("-f").arg(cluster.mount()).status().unwrap();
    let chunks = cluster.json(&["admin", "chunks", "/"]);
    let chunks = chunks.as_array().unwrap();
    assert!(chunks.len() >= 40, "{}", chunks.len());
    for chunk in chunks {
        let replicas = chunk["replicas"].as_array().unwrap();
        let mut racks: Vec<&str> =
            replicas.iter().map(|at| &*rack_of[&at["server"].as_u64().unwrap()]).collect();
        racks.sort_unstable();
        assert_eq!(racks, ["a", "b", "c"], "{chunk}");
    }
    // All of a rack can be lost.
    let without = cluster.json(&["admin", "whatif", "lose", "rack=a"]);
    assert_eq!(
        (without["servers"].as_array().unwrap().len(), &without["unreadable"]),
        (3, &0.into()),
        "{without}"
    );
}
