//! How long a question and an operation take over loopback, and how many go through: run with
//! `cargo run --release -p cairn-master --example session_latency`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use cairn_core::ids::InodeId;
use cairn_core::namespace::request::{OperationKind, QueryKind};
use cairn_proto::v1::master_message::Message as Told;
use std::time::{Duration, Instant};
use support::{Client, Running, config, name};

const ROUNDS: usize = 5000;

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_micros();
    println!("{what}: p50 {} us, p90 {} us, p99 {} us", at(50), at(90), at(99));
}

fn mkdir(number: usize) -> OperationKind {
    OperationKind::Mkdir { parent: InodeId::ROOT, name: name(&number.to_string()), mode: 0o755 }
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        client.ask(QueryKind::GetAttr { inode: InodeId::ROOT }).await.unwrap();
        times.push(start.elapsed());
    }
    show("getattr", times);
    let mut times = Vec::new();
    for number in 0..ROUNDS {
        let start = Instant::now();
        client.operate(mkdir(number)).await.unwrap();
        times.push(start.elapsed());
    }
    show("mkdir", times);
    let start = Instant::now();
    let mut outstanding = 0;
    for number in 0..ROUNDS * 4 {
        let (slot, sequence) = ((number % 63) as u32 + 1, (number / 63) as u64 + 1);
        if outstanding == 63 {
            client.wait_for(|told| matches!(told, Told::Reply(_)).then_some(())).await.unwrap();
            outstanding -= 1;
        }
        client.start(slot, sequence, mkdir(ROUNDS + number)).await;
        outstanding += 1;
    }
    let rate = (ROUNDS * 4) as f64 / start.elapsed().as_secs_f64();
    println!("mkdir, 63 in flight: {rate:.0}/s");
    master.stop().await;
}
