//! `admin chunks PATH`: where the replicas of a file, or of every file below a directory, are.

use super::uuid_text;
use crate::connect::Admin;
use crate::error::CliError;
use crate::output;
use bytes::Bytes;
use cairn_proto::v1::{ChunkPlacement, ChunksRequest};

pub(super) async fn chunks(admin: &mut Admin, json: bool, path: &str) -> Result<(), CliError> {
    let request = ChunksRequest { path: path.as_bytes().to_vec().into() };
    let mut pages = match admin.client.chunks(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    let (mut rows, mut shown) = (Vec::new(), Bytes::new());
    loop {
        match pages.message().await {
            Ok(Some(page)) if json => rows.extend(page.chunks.iter().map(as_json)),
            Ok(Some(page)) => page.chunks.iter().for_each(|chunk| print(chunk, &mut shown)),
            Ok(None) => break,
            Err(status) => return Err(admin.failed(&status)),
        }
    }
    if json { output::json(&rows) } else { Ok(()) }
}

fn as_json(chunk: &ChunkPlacement) -> serde_json::Value {
    let replicas: Vec<_> = chunk
        .replicas
        .iter()
        .map(|replica| {
            serde_json::json!({
                "server": replica.server, "disk": uuid_text(&replica.disk), "version": replica.version,
                "state": replica.state,
            })
        })
        .collect();
    serde_json::json!({
        "path": String::from_utf8_lossy(&chunk.path), "index": chunk.index, "offset": chunk.offset,
        "length": chunk.length, "chunk": chunk.chunk, "version": chunk.version, "replicas": replicas,
    })
}

/// A path heads its chunks: `shown` is the last one that was printed.
fn print(chunk: &ChunkPlacement, shown: &mut Bytes) {
    if *shown != chunk.path {
        shown.clone_from(&chunk.path);
        output::bytes_line(&chunk.path);
    }
    let replicas = chunk.replicas.iter();
    let replicas = replicas.map(|replica| format!("chunkserver-{} {}", replica.server, replica.state));
    let head = format!("  {}+{}  chunk {} v{}  ", chunk.offset, chunk.length, chunk.chunk, chunk.version);
    output::line(&output::wrapped(&head, &replicas.collect::<Vec<_>>().join(", ")));
}
