//! What of a history may go when so many whole images are to stay.
//!
//! The oldest image that stays is the frontier. What stands before it goes: older images, whole or not, and shipments that end
//! there or earlier, which only older images need. An image that is not known to be whole counts for nothing. So whatever
//! could be restored from the frontier on can be restored afterwards, from the same images.

use super::names::{ImageName, Stretch};
use std::collections::BTreeSet;

/// The oldest image that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontier(ImageName);

impl Frontier {
    /// Behind the `keep` newest of the images that are known to be whole; `None`, and nothing may go, when there are not so
    /// many, or none are to stay.
    pub fn of(whole: &BTreeSet<ImageName>, keep: usize) -> Option<Self> {
        whole.iter().rev().nth(keep.checked_sub(1)?).copied().map(Self)
    }

    /// Whether an image may go.
    pub fn passes_image(&self, image: ImageName) -> bool {
        image < self.0
    }

    /// Whether a shipment may go.
    pub fn passes_shipment(&self, stretch: Stretch) -> bool {
        stretch.last <= self.0.index
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain;
    use super::super::names::Holdings;
    use super::*;
    use crate::ids::LogIndex;

    fn image(index: u64) -> ImageName {
        ImageName { index: LogIndex(index), drawn: 7 }
    }

    #[test]
    fn nothing_goes_before_enough_whole_images_are_there() {
        let whole = BTreeSet::from([image(10), image(20)]);
        assert_eq!(Frontier::of(&whole, 3), None);
        assert_eq!(Frontier::of(&whole, 0), None);
        assert_eq!(Frontier::of(&BTreeSet::new(), 1), None);
        assert_eq!(Frontier::of(&whole, 2), Some(Frontier(image(10))));
        let frontier = Frontier::of(&whole, 1).unwrap();
        assert!(frontier.passes_image(image(10)) && !frontier.passes_image(image(20)));
    }

    #[test]
    fn whatever_could_be_restored_from_the_frontier_on_still_can() {
        // Shipments of 1 to 7 entries that overlap, with a gap; an image every 25 entries, the one at 100 damaged.
        let stretch = |first: u64, last: u64| Stretch { first: LogIndex(first), last: LogIndex(last) };
        let shipments = (1..200).filter(|first| !(60..70).contains(first));
        let shipments = shipments.step_by(3).map(|first| stretch(first, first + 2 + first % 5));
        let images: BTreeSet<ImageName> = (1..8).map(|number| image(number * 25)).collect();
        let before =
            Holdings { images: images.clone(), shipments: shipments.collect(), ..Holdings::default() };
        let whole = images.iter().copied().filter(|name| *name != image(100)).collect();
        for (keep, oldest) in [(1, 175), (3, 125), (4, 75), (6, 25)] {
            let frontier = Frontier::of(&whole, keep).unwrap();
            assert_eq!(frontier, Frontier(image(oldest)));
            let mut after = before.clone();
            after.images.retain(|image| !frontier.passes_image(*image));
            after.shipments.retain(|stretch| !frontier.passes_shipment(*stretch));
            assert_eq!(chain::newest(&after), chain::newest(&before));
            for index in (oldest..=210).map(LogIndex) {
                let (had, has) =
                    (chain::reaching(&before, Some(index)), chain::reaching(&after, Some(index)));
                assert_eq!(had.first(), has.first(), "entry {index}");
            }
            assert!(chain::reaching(&after, Some(LogIndex(oldest - 1))).is_empty());
        }
    }
}
