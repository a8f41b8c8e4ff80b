//! The latest of what happened, numbered, so that whoever looks again sees what is new.

use std::collections::VecDeque;

/// The latest `bound` of them.
#[derive(Debug)]
pub struct Recent<T> {
    bound: usize,
    /// Number of the next one, from 1.
    next: u64,
    kept: VecDeque<T>,
}

impl<T> Recent<T> {
    /// None yet.
    pub fn new(bound: usize) -> Self {
        Self { bound, next: 1, kept: VecDeque::new() }
    }

    /// One more; the oldest goes when there are too many.
    pub fn push(&mut self, item: T) {
        if self.kept.len() == self.bound {
            self.kept.pop_front();
        }
        self.kept.push_back(item);
        self.next += 1;
    }

    /// Those with a number above `after`, oldest first, with their numbers.
    pub fn after(&self, after: u64) -> impl Iterator<Item = (u64, &T)> {
        let first = self.next - self.kept.len() as u64;
        (first..).zip(&self.kept).filter(move |(number, _)| *number > after)
    }

    /// How many went because there were too many.
    pub fn dropped(&self) -> u64 {
        self.next - 1 - self.kept.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_numbers_stay() {
        let mut recent = Recent::new(3);
        assert_eq!(recent.after(0).count(), 0);
        (10..15).for_each(|item| recent.push(item));
        assert_eq!(recent.after(0).collect::<Vec<_>>(), [(3, &12), (4, &13), (5, &14)]);
        assert_eq!(recent.after(4).collect::<Vec<_>>(), [(5, &14)]);
        assert_eq!(recent.dropped(), 2);
    }
}
