//! How many second requests a client may send because the first answer is late: a share of all it sends.
//!
//! When everything is slow, asking twice makes everything slower. A bucket of tokens: each request adds a part of one, each
//! second request takes one.

use crate::limits::{HEDGE_BURST, HEDGE_SHARE};

/// The bucket. In parts of a token, so that nothing is lost by rounding.
#[derive(Debug)]
pub struct RetryBudget {
    parts: u32,
    refused: u64,
    spent: u64,
}

impl Default for RetryBudget {
    /// Full: the first requests may meet a server that has just frozen.
    fn default() -> Self {
        Self { parts: HEDGE_BURST * HEDGE_SHARE, refused: 0, spent: 0 }
    }
}

impl RetryBudget {
    /// A request is made.
    pub fn request(&mut self) {
        self.parts = (self.parts + 1).min(HEDGE_BURST * HEDGE_SHARE);
    }

    /// Whether a second one may be made; it is counted then.
    pub fn take(&mut self) -> bool {
        match self.parts.checked_sub(HEDGE_SHARE) {
            Some(rest) => {
                self.parts = rest;
                self.spent += 1;
                true
            }
            None => {
                self.refused += 1;
                false
            }
        }
    }

    /// Second requests so far, and how often one was refused.
    pub fn counts(&self) -> (u64, u64) {
        (self.spent, self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_requests_are_a_burst_and_then_a_share() {
        let mut budget = RetryBudget::default();
        let mut taken = 0;
        for _ in 0..10_000 {
            budget.request();
            taken += u32::from(budget.take());
        }
        let share = 10_000 / HEDGE_SHARE;
        assert!((share..=share + HEDGE_BURST + 1).contains(&taken), "{taken}");
        assert_eq!(budget.counts(), (u64::from(taken), 10_000 - u64::from(taken)));
    }

    #[test]
    fn what_is_not_spent_is_saved_up_to_the_burst() {
        let mut budget = RetryBudget::default();
        (0..100_000).for_each(|_| budget.request());
        assert_eq!((0..1000).filter(|_| budget.take()).count(), HEDGE_BURST as usize);
    }
}
