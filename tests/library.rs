//! The library on a real cluster, by the example that the README points at.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::{Cluster, ClusterOptions};
use std::fs;

#[allow(dead_code, reason = "its main is for people")]
#[path = "../client/examples/tour.rs"]
mod tour;

#[tokio::test]
async fn the_tour_holds_what_it_shows() {
    let cluster = Cluster::up(ClusterOptions::default());
    tour::tour(&cluster.masters()).await.unwrap();
    let left: Vec<_> = fs::read_dir(cluster.mount()).unwrap().collect();
    assert!(left.is_empty(), "the tour leaves {left:?} behind");
}
