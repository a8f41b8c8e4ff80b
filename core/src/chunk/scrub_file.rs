//! The file `scrub` of a disk: where its scrubbing stands. Replaced whole, now and then; one that is absent or damaged means that
//! scrubbing begins anew, which costs a round and nothing else.
//!
//! ```text
//!            0    8 magic          "CairnSB1"
//!            8    4 format         1
//!           12    4 flags          1: paused, 2: the round was demanded
//!           16    8 limit          of a demanded round, bytes per second; 0: none
//!           24    8 noted          when this was written; this and all times: milliseconds since 1970
//!           32    8 begun          when the round began
//!           40    8 chunk          replicas below (chunk, part) were passed in this round
//!           48    4 part
//!           52    4 marks
//!           56    8 passed         bytes of what was passed in this round
//!           64    8 rounds         that have ended
//!           72    8 verified       bytes ever
//!           80    8 damaged        replicas found ever
//!           88      marks x (chunk u64, part u32, reserved u32, time u64): from there on verified last at that time or later
//!            +    4 crc            CRC-32 of all before
//! ```

use super::catalogue::ReplicaKey;
use super::scrub::{Coverage, Mark, Scrub, Urgency, WallMillis};
use super::{u32_at, u64_at};
use crate::ids::{ChunkId, PartId};
use crate::limits::SCRUB_MARKS_MAX;

/// Name of the file in a disk's directory.
pub const SCRUB_FILE: &str = "scrub";
/// Most bytes of it.
pub const SCRUB_FILE_BYTES_MAX: u64 = (HEADER_BYTES + SCRUB_MARKS_MAX * MARK_BYTES + CRC_BYTES) as u64;

const MAGIC: [u8; 8] = *b"CairnSB1";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 88;
const MARK_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
const FLAG_PAUSED: u32 = 1;
const FLAG_DEMANDED: u32 = 2;

/// Its bytes; `noted`: the present time.
pub fn encode(scrub: &Scrub, noted: WallMillis) -> Vec<u8> {
    let (demanded, limit) = match scrub.urgency {
        Urgency::Scheduled => (0, 0),
        Urgency::Demanded { limit } => (FLAG_DEMANDED, limit),
    };
    let paused = if scrub.paused { FLAG_PAUSED } else { 0 };
    let marks = scrub.coverage.marks();
    let mut out = Vec::with_capacity(HEADER_BYTES + marks.len() * MARK_BYTES + CRC_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&(paused | demanded).to_le_bytes());
    for field in [limit, noted, scrub.begun, scrub.next.chunk.get()] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&u32::from(scrub.next.part.get()).to_le_bytes());
    out.extend_from_slice(&(marks.len() as u32).to_le_bytes());
    for field in [scrub.passed, scrub.rounds, scrub.verified_ever, scrub.damaged] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for mark in marks {
        out.extend_from_slice(&mark.key.chunk.get().to_le_bytes());
        out.extend_from_slice(&u64::from(mark.key.part.get()).to_le_bytes());
        out.extend_from_slice(&mark.at.to_le_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What the file says, and when it was written; `None` when it is damaged or of another format.
pub fn decode(bytes: &[u8]) -> Option<(Scrub, WallMillis)> {
    let body = bytes.len().checked_sub(CRC_BYTES).filter(|&body| body >= HEADER_BYTES)?;
    let sound = bytes[..8] == MAGIC
        && u32_at(bytes, 8) == FORMAT
        && u32_at(bytes, body) == crc32fast::hash(&bytes[..body])
        && body == HEADER_BYTES + (u32_at(bytes, 52) as usize).checked_mul(MARK_BYTES)?;
    if !sound {
        return None;
    }
    let flags = u32_at(bytes, 12);
    let mark = |at: &[u8]| Mark {
        key: ReplicaKey { chunk: ChunkId(u64_at(at, 0)), part: PartId(u32_at(at, 8) as u16) },
        at: u64_at(at, 16),
    };
    let marks = bytes[HEADER_BYTES..body].chunks_exact(MARK_BYTES).map(mark).collect();
    let scrub = Scrub {
        paused: flags & FLAG_PAUSED != 0,
        urgency: match flags & FLAG_DEMANDED {
            0 => Urgency::Scheduled,
            _ => Urgency::Demanded { limit: u64_at(bytes, 16) },
        },
        begun: u64_at(bytes, 32),
        next: ReplicaKey { chunk: ChunkId(u64_at(bytes, 40)), part: PartId(u32_at(bytes, 48) as u16) },
        passed: u64_at(bytes, 56),
        rounds: u64_at(bytes, 64),
        verified_ever: u64_at(bytes, 72),
        damaged: u64_at(bytes, 80),
        coverage: Coverage::from_marks(marks)?,
    };
    Some((scrub, u64_at(bytes, 24)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::scrub::Pace;
    use std::time::Duration;

    #[test]
    fn it_round_trips_and_every_cut_and_flip_is_refused() {
        let pace = Pace { period: Duration::ZERO, limit: 0 };
        let mut scrub = Scrub::new(1000);
        scrub.start(77, 2000);
        scrub.pass(ReplicaKey { chunk: ChunkId(5), part: PartId(0) }, 4096, Some(3000), &pace);
        scrub.pass(ReplicaKey { chunk: ChunkId(9), part: PartId(1) }, 4096, Some(9000), &pace);
        (scrub.rounds, scrub.verified_ever, scrub.damaged) = (1, 2, 3);
        for scrub in [Scrub { paused: true, ..scrub.clone() }, scrub, Scrub::new(4)] {
            let bytes = encode(&scrub, 5000);
            assert!(bytes.len() as u64 <= SCRUB_FILE_BYTES_MAX);
            assert_eq!(decode(&bytes), Some((scrub, 5000)));
            (0..bytes.len()).for_each(|cut| assert_eq!(decode(&bytes[..cut]), None));
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bad), None, "bit {bit}");
            }
        }
    }
}
