//! What `admin capacity` is answered.

use crate::parts::Parts;
use crate::policy_pages;
use crate::work::capacity::use_of;
use cairn_core::error::FsError;
use cairn_core::explain::capacity::{HOUR_SECONDS, Outlook, Sample, outlook};
use cairn_core::namespace::work::{capacity, totals};
use cairn_proto::v1::{CapacityReply, CapacitySample, ServerCapacity};

/// Use by server, the history, and what it says of the future.
///
/// # Errors
/// This master does not lead, or its state cannot be read.
pub(crate) async fn page(parts: &Parts) -> Result<CapacityReply, FsError> {
    let samples = parts.reader.read(capacity).await?;
    let totals = parts.reader.read(totals).await?;
    let (now, wall) = (parts.now(), parts.env.clock.wall());
    let view = parts.servers.view(now);
    let (total_bytes, used_bytes) = use_of(&view);
    let free_bytes = total_bytes.saturating_sub(used_bytes);
    let (state, bytes_per_day, full_seconds, span) = match outlook(&samples, free_bytes) {
        Outlook::TooLittleHistory { span } => ("too little history", 0, 0, span),
        Outlook::NotGrowing { bytes_per_day } => ("not growing", bytes_per_day, 0, Default::default()),
        Outlook::Full { bytes_per_day, after } => {
            let after = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
            ("growing", bytes_per_day, wall.seconds.saturating_add(after), Default::default())
        }
    };
    let servers = view.servers.iter().map(|(server, view)| ServerCapacity {
        server: server.get(),
        state: view.health.name().to_owned(),
        total_bytes: view.total_bytes,
        free_bytes: view.free_bytes,
    });
    Ok(CapacityReply {
        servers: servers.collect(),
        total_bytes,
        used_bytes,
        chunks: totals.chunks,
        inodes: totals.inodes,
        outlook: state.to_owned(),
        bytes_per_day,
        full_seconds,
        history_seconds: span.as_secs(),
        samples: samples.iter().map(sample).collect(),
        policies: policy_pages::infos(parts).await?,
    })
}

fn sample(sample: &Sample) -> CapacitySample {
    CapacitySample {
        seconds: i64::from(sample.hour) * HOUR_SECONDS,
        total_bytes: sample.total_bytes,
        used_bytes: sample.used_bytes,
        chunks: sample.chunks,
        inodes: sample.inodes,
    }
}
