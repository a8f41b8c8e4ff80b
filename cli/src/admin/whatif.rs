//! `admin whatif`: what a loss would come to.

use super::{drain, request};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes, human_time};
use cairn_proto::v1::{WhatIfReply, WhatIfRequest};
use clap::Subcommand;

/// What could happen.
#[derive(Clone, Debug, Subcommand)]
pub enum WhatIfCommand {
    /// Chunk servers are lost for good
    Lose {
        /// A chunk server (its number, chunkserver-N or HOST:PORT), or all with a label, such as rack=7
        target: String,
    },
}

pub(super) async fn whatif(admin: &mut Admin, json: bool, command: WhatIfCommand) -> Result<(), CliError> {
    let WhatIfCommand::Lose { target } = command;
    let lose = match target.contains('=') {
        true => target,
        false => drain::find(admin, &target).await?.to_string(),
    };
    let answered = admin.client.what_if(request(WhatIfRequest { lose })).await;
    let reply = answered.map_err(|status| admin.failed(&status))?.into_inner();
    if json { output::json(&as_json(&reply)) } else { show(&reply) }
}

fn show(reply: &WhatIfReply) -> Result<(), CliError> {
    let names: Vec<String> = reply.servers.iter().map(|server| format!("chunkserver-{server}")).collect();
    output::line(&format!("without {}: {} chunks have a copy there", names.join(", "), reply.chunks));
    if !reply.complete {
        output::line("there are more than were looked at: the figures are of the first million copies");
    }
    let mut table = output::Table::new(&["COPIES LEFT", "CHUNKS"]);
    for (copies, &chunks) in reply.by_copies_left.iter().enumerate().filter(|(_, chunks)| **chunks > 0) {
        let meaning = if copies == 0 { "0, unreadable" } else { "" };
        let copies = if meaning.is_empty() { copies.to_string() } else { meaning.to_owned() };
        table.row(vec![copies, chunks.to_string()]);
    }
    table.print();
    if reply.below_minimum > 0 {
        output::line(&format!(
            "{} have fewer copies left than a write needs: who writes them goes on in new chunks, or waits",
            reply.below_minimum
        ));
    }
    let copying = format!(
        "making them whole again copies about {} in about {}",
        human_bytes(reply.bytes_to_copy),
        human_time(reply.estimated_ms)
    );
    output::line(&match (reply.fits, reply.cannot_be_whole) {
        (true, _) => format!("{copying}; {} are free for it", human_bytes(reply.free_bytes)),
        (false, 0) => {
            format!("{copying}; only {} are free: add disks or a server", human_bytes(reply.free_bytes))
        }
        (false, short) => format!("{short} could not be made whole: too few servers would be left; add one"),
    });
    Ok(())
}

fn as_json(reply: &WhatIfReply) -> serde_json::Value {
    serde_json::json!({
        "servers": reply.servers, "chunks": reply.chunks, "by_copies_left": reply.by_copies_left,
        "unreadable": reply.unreadable, "below_minimum": reply.below_minimum,
        "cannot_be_whole": reply.cannot_be_whole, "bytes_to_copy": reply.bytes_to_copy,
        "free_bytes": reply.free_bytes, "fits": reply.fits, "estimated_ms": reply.estimated_ms,
        "complete": reply.complete,
    })
}
