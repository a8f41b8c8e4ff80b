//! What a power cut leaves is a choice: drawn from a seed, or made by a test.

/// Chooses among the states that unsynced data may be left in.
pub trait CrashChoice {
    /// One of 0 (as last synced) ..= `newest`: of a sector, a length, or (0 or 1) an operation on names.
    fn state(&mut self, newest: u64) -> u64;

    /// Another file's or all directories' choices follow.
    fn begin_part(&mut self) {}
}

/// Nothing unsynced survives.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoseAll;

impl CrashChoice for LoseAll {
    fn state(&mut self, _newest: u64) -> u64 {
        0
    }
}

/// Everything survives: a process died, not the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAll;

impl CrashChoice for KeepAll {
    fn state(&mut self, newest: u64) -> u64 {
        newest
    }
}

/// Draws from a seed. Each file gets a leaning of its own (all lost, few, half, most, all kept), because independent
/// coins alone would hardly ever lose or keep a large write whole.
#[derive(Clone, Debug)]
pub struct Seeded {
    state: u64,
    kept_of_256: u64,
}

impl Seeded {
    /// Equal seeds choose equally.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, kept_of_256: 128 }
    }

    /// SplitMix64: every seed, also 0, 1, 2 …, starts a stream of its own.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl CrashChoice for Seeded {
    fn state(&mut self, newest: u64) -> u64 {
        if newest == 0 {
            return 0;
        }
        let drawn = self.next();
        if drawn & 255 < self.kept_of_256 { newest } else { (drawn >> 8) % newest }
    }

    fn begin_part(&mut self) {
        self.kept_of_256 = [0, 32, 128, 224, 256][(self.next() % 5) as usize];
    }
}
