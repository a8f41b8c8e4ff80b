//! Randomness.

/// The randomness door. In a simulation every draw comes from the seed.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes`; fit for session secrets and uuids.
    fn fill(&self, bytes: &mut [u8]);

    /// A uniform number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A uniform number in `0 .. bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64 }
    }

    /// A random (version 4) uuid.
    fn uuid(&self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}
