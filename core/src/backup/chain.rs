//! How far an image reaches with the shipments after it, and which of them are needed.
//!
//! Shipments may overlap: a deposed leader and its successor may ship the same entries, which are the same because only committed
//! ones are shipped. They may leave a gap where the journal could not be shipped; an image stands behind it then.

use super::names::{Holdings, ImageName, Stretch};
use crate::ids::LogIndex;
use std::collections::BTreeSet;

/// The shipments that lead from an image to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it begins.
    pub image: ImageName,
    /// In the order in which they are applied; their first entries may be applied already.
    pub shipments: Vec<Stretch>,
    /// Last entry that it reaches.
    pub reach: LogIndex,
}

/// Follows the shipments after `image` as far as `to`, or as far as they reach.
pub fn follow(image: ImageName, shipments: &BTreeSet<Stretch>, to: Option<LogIndex>) -> Chain {
    let mut chain = Chain { image, shipments: Vec::new(), reach: image.index };
    for &stretch in shipments {
        let reached = to.is_some_and(|to| chain.reach >= to);
        if reached || stretch.first.get() > chain.reach.get().saturating_add(1) {
            break;
        }
        if stretch.last > chain.reach {
            chain.shipments.push(stretch);
            chain.reach = stretch.last;
        }
    }
    chain
}

/// Images from which `to` can be reached, newest first; without `to`, those that reach furthest. One that turns out to be damaged
/// can be replaced by the next.
pub fn reaching(holdings: &Holdings, to: Option<LogIndex>) -> Vec<ImageName> {
    let images = holdings.images.iter().rev().filter(|image| to.is_none_or(|to| image.index <= to));
    let reaches: Vec<(ImageName, LogIndex)> =
        images.map(|&image| (image, follow(image, &holdings.shipments, to).reach)).collect();
    let Some(furthest) = reaches.iter().map(|(_, reach)| *reach).max() else { return Vec::new() };
    let wanted = to.unwrap_or(furthest);
    reaches.into_iter().filter(|(_, reach)| *reach >= wanted).map(|(image, _)| image).collect()
}

/// The chain that reaches furthest, from the newest image that does.
pub fn newest(holdings: &Holdings) -> Option<Chain> {
    reaching(holdings, None).first().map(|&image| follow(image, &holdings.shipments, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(index: u64) -> ImageName {
        ImageName { index: LogIndex(index), drawn: 0 }
    }

    fn holdings(images: &[u64], shipments: &[(u64, u64)]) -> Holdings {
        let stretch = |&(first, last): &(u64, u64)| Stretch { first: LogIndex(first), last: LogIndex(last) };
        Holdings {
            images: images.iter().map(|&index| image(index)).collect(),
            shipments: shipments.iter().map(stretch).collect(),
            ..Holdings::default()
        }
    }

    fn reach(chain: Option<Chain>) -> Option<(u64, u64, usize)> {
        chain.map(|chain| (chain.image.index.get(), chain.reach.get(), chain.shipments.len()))
    }

    fn to(holdings: &Holdings, index: u64) -> Option<Chain> {
        let image = reaching(holdings, Some(LogIndex(index))).first().copied();
        image.map(|image| follow(image, &holdings.shipments, Some(LogIndex(index))))
    }

    #[test]
    fn a_chain_passes_overlaps_and_ends_at_a_gap() {
        let held = holdings(&[10], &[(1, 5), (6, 12), (11, 12), (11, 20), (13, 15), (21, 30), (40, 50)]);
        assert_eq!(reach(newest(&held)), Some((10, 30, 3)));
        assert_eq!(reach(to(&held, 20)), Some((10, 20, 2)));
        assert_eq!(reach(to(&held, 40)), None);
        assert_eq!(reach(to(&held, 9)), None);
        // A name that nobody gave, and one behind it.
        let strange = holdings(&[10], &[(11, u64::MAX), (12, u64::MAX)]);
        assert_eq!(reach(newest(&strange)), Some((10, u64::MAX, 1)));
        assert_eq!(reach(to(&held, 10)), Some((10, 10, 0)));
    }

    #[test]
    fn the_newest_image_that_reaches_is_taken() {
        let held = holdings(&[10, 35], &[(11, 34), (35, 36), (37, 40)]);
        assert_eq!(reach(newest(&held)), Some((35, 40, 2)));
        assert_eq!(reach(to(&held, 33)), Some((10, 34, 1)));
        assert_eq!(reach(newest(&holdings(&[], &[(1, 9)]))), None);
    }

    #[test]
    fn an_older_image_replaces_a_damaged_one_only_where_it_reaches_as_far() {
        let held = holdings(&[10, 20, 30, 50], &[(11, 25), (26, 40), (51, 60)]);
        assert_eq!(reaching(&held, None), [image(50)]);
        assert_eq!(reaching(&held, Some(LogIndex(35))), [image(30), image(20), image(10)]);
        assert_eq!(reaching(&held, Some(LogIndex(45))), []);
    }
}
