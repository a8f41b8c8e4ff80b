//! Journal that must stay although the state no longer needs it: a member that is being filled goes on from there.

use cairn_core::ids::LogIndex;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is pinned, shared by those who fill members and the sequencer.
#[derive(Debug, Default)]
pub struct JournalPins {
    pins: Mutex<Pins>,
}

#[derive(Debug, Default)]
struct Pins {
    next: u64,
    held: BTreeMap<u64, LogIndex>,
}

impl JournalPins {
    /// Keeps every entry after `index` for as long as the pin lives.
    pub fn pin(self: &Arc<Self>, index: LogIndex) -> JournalPin {
        let mut pins = self.lock();
        let number = pins.next;
        pins.next += 1;
        pins.held.insert(number, index);
        drop(pins);
        JournalPin { pins: Arc::clone(self), number }
    }

    /// The lowest index pinned.
    pub fn lowest(&self) -> Option<LogIndex> {
        self.lock().held.values().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps journal while it lives.
#[derive(Debug)]
pub struct JournalPin {
    pins: Arc<JournalPins>,
    number: u64,
}

impl Drop for JournalPin {
    fn drop(&mut self) {
        self.pins.lock().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_pin_holds_until_it_is_dropped() {
        let pins = Arc::new(JournalPins::default());
        let (low, high) = (pins.pin(LogIndex(5)), pins.pin(LogIndex(9)));
        assert_eq!(pins.lowest(), Some(LogIndex(5)));
        drop(low);
        assert_eq!(pins.lowest(), Some(LogIndex(9)));
        drop(high);
        assert_eq!(pins.lowest(), None);
    }
}
