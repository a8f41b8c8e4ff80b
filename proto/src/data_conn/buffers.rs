//! Payload buffers: page-aligned, reused, so that bulk traffic neither faults pages in nor zeroes them again and again.

use bytes::Bytes;
use cairn_core::limits::{FRAME_PAYLOAD_BYTES_MAX, POOLED_BUFFERS_MAX, SMALL_WRITE_BYTES_MAX};
use cairn_core::units::BLOCK_BYTES;
use std::sync::{Arc, Mutex, PoisonError};

/// The largest payload (a block more than the limit, for reads that are not aligned) and room to align it.
const POOLED_BYTES: usize = FRAME_PAYLOAD_BYTES_MAX + 2 * BLOCK_BYTES as usize;

/// Buffers waiting for their next use; at most `POOLED_BUFFERS_MAX`. Cloning shares them.
#[derive(Clone, Default)]
pub struct PayloadPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer to fill, then to [`PayloadBuffer::freeze`]. Its first contents are arbitrary bytes of earlier frames.
pub struct PayloadBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    home: Option<PayloadPool>,
}

impl PayloadPool {
    /// A buffer of exactly `len` bytes; large ones begin on a page.
    pub fn take(&self, len: usize) -> PayloadBuffer {
        if len <= SMALL_WRITE_BYTES_MAX || len > POOLED_BYTES - BLOCK_BYTES as usize {
            return PayloadBuffer { bytes: vec![0; len], start: 0, len, home: None };
        }
        let reused = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = reused.unwrap_or_else(|| vec![0; POOLED_BYTES]);
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES as usize).min(BLOCK_BYTES as usize);
        PayloadBuffer { bytes, start, len, home: Some(self.clone()) }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < POOLED_BUFFERS_MAX {
            free.push(bytes);
        }
    }
}

impl PayloadBuffer {
    /// The bytes as shared, immutable payload; the buffer returns to the pool with its last copy.
    pub fn freeze(self) -> Bytes {
        if self.len == 0 { Bytes::new() } else { Bytes::from_owner(self) }
    }
}

impl AsRef<[u8]> for PayloadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl AsMut<[u8]> for PayloadBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for PayloadBuffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_aligned_and_come_back() {
        let pool = PayloadPool::default();
        let mut buffer = pool.take(FRAME_PAYLOAD_BYTES_MAX);
        buffer.as_mut().fill(7);
        assert_eq!(buffer.as_ref().as_ptr().align_offset(4096), 0);
        let payload = buffer.freeze();
        let copy = payload.clone();
        drop(payload);
        assert!(pool.free.lock().unwrap().is_empty(), "a copy still shows the bytes");
        assert!(copy.iter().all(|&byte| byte == 7));
        drop(copy);
        assert_eq!(pool.free.lock().unwrap().len(), 1);
    }

    #[test]
    fn the_pool_is_bounded_and_small_buffers_stay_out() {
        let pool = PayloadPool::default();
        let many: Vec<_> = (0..POOLED_BUFFERS_MAX + 9).map(|_| pool.take(100_000)).collect();
        drop(many);
        drop(pool.take(4096));
        assert_eq!(pool.free.lock().unwrap().len(), POOLED_BUFFERS_MAX);
        assert_eq!(pool.take(0).freeze().len(), 0);
    }
}
