//! How many files a second the library creates, by tasks side by side, on a running cluster:
//!
//! ```text
//! cairn dev up --root /tmp/try --base-port 9400
//! cargo run --release -p cairn-client --example creates -- 127.0.0.1:9400 64 10
//! ```

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement")]

use cairn_client::Client;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: creates MASTER:PORT[,MASTER:PORT…] TASKS SECONDS";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let masters = arguments.next().ok_or(USAGE)?;
    let tasks: usize = arguments.next().ok_or(USAGE)?.parse()?;
    let duration = Duration::from_secs(arguments.next().ok_or(USAGE)?.parse()?);
    let client = Arc::new(Client::connect(&masters).await?);
    let own = format!("/creates-{}", std::process::id());
    client.create_dir(&own).await?;
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (client, directory) = (Arc::clone(&client), format!("{own}/{task}"));
        running.spawn(async move {
            client.create_dir(&directory).await?;
            let mut times = Vec::new();
            while begun.elapsed() < duration {
                let start = Instant::now();
                client.create(format!("{directory}/{}", times.len())).await?.close().await?;
                times.push(start.elapsed());
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.append(&mut done??);
    }
    let elapsed = begun.elapsed();
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0, Duration::as_micros);
    println!(
        "{tasks} tasks: {:.0} creates/s, p50 {} us, p99 {} us",
        times.len() as f64 / elapsed.as_secs_f64(),
        at(50),
        at(99)
    );
    client.remove_dir_all(&own).await?;
    Ok(())
}
