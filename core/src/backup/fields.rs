//! The fields that both kinds of objects begin with.

use super::{BackupError, History};
use crate::ids::ClusterId;
use crate::time::Timestamp;
use bytes::{Buf, BufMut};
use uuid::Uuid;

/// Version of both layouts.
pub(super) const FORMAT: u32 = 1;
/// Magic, format, a count, cluster, history.
pub(super) const HEAD_BYTES: usize = 40;

/// The fields.
pub(super) struct Head {
    pub(super) count: u32,
    pub(super) cluster: ClusterId,
    pub(super) history: History,
}

impl Head {
    pub(super) fn write(&self, magic: [u8; 8], out: &mut Vec<u8>) {
        out.put_slice(&magic);
        out.put_u32_le(FORMAT);
        out.put_u32_le(self.count);
        out.put_slice(self.cluster.0.as_bytes());
        out.put_u64_le(self.history.0);
    }

    /// Reads the fields off `input`, which has at least [`HEAD_BYTES`].
    pub(super) fn read(magic: [u8; 8], input: &mut &[u8]) -> Result<Self, BackupError> {
        if input.len() < HEAD_BYTES || !input.starts_with(&magic) {
            return Err(BackupError::Damaged);
        }
        input.advance(magic.len());
        let format = input.get_u32_le();
        if format > FORMAT {
            return Err(BackupError::NewerFormat(format));
        }
        let count = input.get_u32_le();
        let mut cluster = [0; 16];
        input.copy_to_slice(&mut cluster);
        let history = History(input.get_u64_le());
        match format {
            FORMAT => Ok(Self { count, cluster: ClusterId(Uuid::from_bytes(cluster)), history }),
            _ => Err(BackupError::Damaged),
        }
    }
}

pub(super) fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.put_i64_le(time.seconds);
    out.put_u32_le(time.nanos);
}

/// Twelve bytes must be there.
pub(super) fn get_time(input: &mut &[u8]) -> Result<Timestamp, BackupError> {
    let time = Timestamp { seconds: input.get_i64_le(), nanos: input.get_u32_le() };
    if time.nanos < 1_000_000_000 { Ok(time) } else { Err(BackupError::Damaged) }
}
