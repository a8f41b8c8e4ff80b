//! A tour of the library on a running cluster:
//!
//! ```text
//! cairn dev up --root /tmp/try --base-port 9400
//! cargo run --release -p cairn-client --example tour -- 127.0.0.1:9400
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it finds")]

use cairn_client::Client;
use futures::StreamExt;
use std::error::Error;
use std::io::SeekFrom;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tour(&std::env::args().nth(1).ok_or("usage: tour MASTER:PORT[,MASTER:PORT…]")?).await
}

/// What the library can do.
pub(crate) async fn tour(masters: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(masters).await?;

    client.create_dir_all("/tour/deep/down").await?;
    client.write("/tour/greeting", "hello, world").await?;
    assert_eq!(&client.read("/tour/greeting").await?[..], b"hello, world");

    // Positional writes, and the traits of tokio with a cursor.
    let mut file = client.create("/tour/deep/down/numbers").await?;
    file.write_at(1 << 20, "far away").await?;
    file.write_all(b"at the beginning").await?;
    // Errors of writing show here at the latest; after it, every other client sees the file.
    file.close().await?;

    let mut file = client.open("/tour/deep/down/numbers").await?;
    assert_eq!(&file.read_at(0, 16).await?[..], b"at the beginning");
    file.seek(SeekFrom::Start(1 << 20)).await?;
    let mut text = String::new();
    file.read_to_string(&mut text).await?;
    assert_eq!(text, "far away");

    client.symlink("greeting", "/tour/alias").await?;
    client.rename("/tour/deep/down/numbers", "/tour/numbers").await?;
    let mut entries = client.read_dir("/tour").await?;
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        println!("{:?}", entry.path());
    }
    client.remove_dir_all("/tour").await?;
    client.shutdown().await?;
    Ok(())
}
