//! One open directory: which page answers the kernel's next question, and when to fetch ahead.
//!
//! Pure: pages come in, answers and wishes go out. One page is held.
//! Cookie 1 stands after `.`, cookie 2 after `..`; entries have 3 and more, in ascending order, so "after this cookie"
//! is exact and a listing may be resumed anywhere.

use cairn_core::namespace::answer::DirectoryEntry;
use std::sync::Arc;

/// Cookie after `.`.
pub(crate) const AFTER_DOT: u64 = 1;
/// Cookie after `..`: what the master knows follows.
pub(crate) const AFTER_DOT_DOT: u64 = 2;

/// Entries that follow one cookie without a gap.
#[derive(Debug)]
pub(crate) struct Page {
    /// They follow this cookie.
    pub(crate) after: u64,
    /// In order of their cookies.
    pub(crate) entries: Vec<DirectoryEntry>,
    /// Nothing follows.
    pub(crate) end: bool,
    /// Attributes came with them.
    pub(crate) with_attrs: bool,
}

impl Page {
    /// The last cookie that the page accounts for.
    pub(crate) fn last(&self) -> u64 {
        self.entries.last().map_or(self.after, |entry| entry.cookie)
    }

    /// Whether the entry after `cookie` is in it (or is known not to exist).
    pub(crate) fn answers(&self, cookie: u64, with_attrs: bool) -> bool {
        let reaches = cookie < self.last() || (self.end && cookie == self.last());
        self.after <= cookie && reaches && (self.with_attrs || !with_attrs)
    }

    /// Index of the first entry after `cookie`.
    pub(crate) fn position(&self, cookie: u64) -> usize {
        self.entries.partition_point(|entry| entry.cookie <= cookie)
    }
}

/// The page at hand.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    current: Option<Arc<Page>>,
}

impl Listing {
    /// The page that holds what follows `cookie`.
    pub(crate) fn find(&self, cookie: u64, with_attrs: bool) -> Option<Arc<Page>> {
        self.current.clone().filter(|page| page.answers(cookie, with_attrs))
    }

    /// Takes the page that was fetched because the one at hand did not answer.
    pub(crate) fn turn_to(&mut self, page: Page) -> Arc<Page> {
        self.current.insert(Arc::new(page)).clone()
    }

    /// What to fetch while the kernel reads this page: what follows it.
    pub(crate) fn wish(&self) -> Option<u64> {
        self.current.as_ref().filter(|page| !page.end).map(|page| page.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cairn_core::ids::InodeId;
    use cairn_core::namespace::attr::NodeKind;

    fn entry(cookie: u64) -> DirectoryEntry {
        let name = Bytes::from(format!("f{cookie}"));
        DirectoryEntry {
            name,
            inode: InodeId(cookie),
            kind: NodeKind::Regular,
            cookie,
            attr: None,
            map: None,
        }
    }

    fn page(after: u64, cookies: &[u64], end: bool) -> Page {
        Page { after, entries: cookies.iter().copied().map(entry).collect(), end, with_attrs: false }
    }

    #[test]
    fn a_page_answers_every_cookie_within_it_even_of_removed_entries() {
        let mut listing = Listing::default();
        assert!(listing.find(2, false).is_none());
        listing.turn_to(page(2, &[3, 5, 9], false));
        let cookies_after = |listing: &Listing, cookie| {
            let page = listing.find(cookie, false)?;
            let rest: Vec<u64> =
                page.entries[page.position(cookie)..].iter().map(|entry| entry.cookie).collect();
            Some(rest)
        };
        assert_eq!(cookies_after(&listing, 2).unwrap(), [3, 5, 9]);
        assert_eq!(cookies_after(&listing, 4).unwrap(), [5, 9]);
        assert_eq!(cookies_after(&listing, 8).unwrap(), [9]);
        assert!(cookies_after(&listing, 9).is_none(), "what follows 9 is in the next page");
        assert!(cookies_after(&listing, 1).is_none(), "the page begins after 2");
    }

    #[test]
    fn the_last_page_answers_that_nothing_follows() {
        let mut listing = Listing::default();
        listing.turn_to(page(2, &[3], true));
        let last = listing.find(3, false).unwrap();
        assert_eq!(last.position(3), last.entries.len());
        listing.turn_to(page(2, &[], true));
        assert!(listing.find(2, false).unwrap().entries.is_empty());
        assert_eq!(listing.wish(), None);
    }

    #[test]
    fn plain_entries_do_not_answer_for_attributes() {
        let mut listing = Listing::default();
        listing.turn_to(page(2, &[3, 4], false));
        assert!(listing.find(2, true).is_none());
        listing.turn_to(Page { with_attrs: true, ..page(2, &[3, 4], false) });
        assert!(listing.find(2, true).is_some() && listing.find(2, false).is_some());
    }

    #[test]
    fn the_next_page_is_wished_until_the_last() {
        let mut listing = Listing::default();
        assert_eq!(listing.wish(), None);
        listing.turn_to(page(2, &[3, 4, 5, 6], false));
        assert_eq!(listing.wish(), Some(6));
        listing.turn_to(page(6, &[], false));
        assert_eq!(listing.wish(), Some(6), "everything in it was removed");
        listing.turn_to(page(6, &[7, 8], true));
        assert_eq!(listing.wish(), None, "it was the last");
    }
}
