//! Bytes of one file: sparse 4 KiB pages, shared between versions until written.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Bytes of one page, the unit of allocation.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Pages of one leaf: the unit of sharing between versions.
const LEAF_PAGES: u64 = 64;

type Page = [u8; PAGE_BYTES as usize];

/// Allocated and never written pages all point here.
static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE_BYTES as usize]));

#[derive(Clone)]
struct Leaf {
    pages: [Option<Arc<Page>>; LEAF_PAGES as usize],
}

impl Leaf {
    const EMPTY: Self = Self { pages: [const { None }; LEAF_PAGES as usize] };
}

/// One version of a file's bytes. A clone shares all pages.
#[derive(Clone, Default)]
pub(super) struct Content {
    length: u64,
    leaves: BTreeMap<u64, Arc<Leaf>>,
    /// Pages present.
    pages: u64,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    fn page(&self, number: u64) -> Option<&Arc<Page>> {
        self.leaves.get(&(number / LEAF_PAGES))?.pages[(number % LEAF_PAGES) as usize].as_ref()
    }

    fn slot(&mut self, number: u64) -> &mut Option<Arc<Page>> {
        let leaf = self.leaves.entry(number / LEAF_PAGES).or_insert_with(|| Arc::new(Leaf::EMPTY));
        &mut Arc::make_mut(leaf).pages[(number % LEAF_PAGES) as usize]
    }

    fn page_mut(&mut self, number: u64) -> &mut Page {
        if self.page(number).is_none() {
            self.pages += 1;
        }
        Arc::make_mut(self.slot(number).get_or_insert_with(|| ZEROS.clone()))
    }

    /// Pages that a write of this range would add.
    pub(super) fn missing_pages(&self, offset: u64, length: u64) -> u64 {
        page_range(offset, length).filter(|&number| self.page(number).is_none()).count() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = (buffer.len() as u64).min(self.length.saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let piece = (PAGE_BYTES as usize - within).min(count - done);
            let target = &mut buffer[done..done + piece];
            match self.page(at / PAGE_BYTES) {
                Some(page) => target.copy_from_slice(&page[within..within + piece]),
                None => target.fill(0),
            }
            done += piece;
        }
        count
    }

    /// Writes without changing the length, which the caller decides.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let piece = (PAGE_BYTES as usize - within).min(bytes.len() - done);
            self.page_mut(at / PAGE_BYTES)[within..within + piece]
                .copy_from_slice(&bytes[done..done + piece]);
            done += piece;
        }
    }

    /// Makes the range's pages present, as zeros where they were not.
    pub(super) fn allocate(&mut self, offset: u64, length: u64) {
        for number in page_range(offset, length) {
            if self.page(number).is_none() {
                *self.slot(number) = Some(ZEROS.clone());
                self.pages += 1;
            }
        }
    }

    /// Sets the length; what lies beyond is erased, so that a later extension reads zeros.
    pub(super) fn set_length(&mut self, length: u64) {
        self.length = length;
        let first_cut = length.div_ceil(PAGE_BYTES);
        let whole_leaves = self.leaves.split_off(&first_cut.div_ceil(LEAF_PAGES));
        for leaf in whole_leaves.values() {
            self.pages -= leaf.pages.iter().flatten().count() as u64;
        }
        if let Some(leaf) = self.leaves.get_mut(&(first_cut / LEAF_PAGES)) {
            let from = (first_cut % LEAF_PAGES) as usize;
            let cut = leaf.pages[from..].iter().flatten().count() as u64;
            if cut > 0 {
                Arc::make_mut(leaf).pages[from..].fill(None);
                self.pages -= cut;
            }
        }
        let tail = (length % PAGE_BYTES) as usize;
        if tail != 0
            && self.page(length / PAGE_BYTES).is_some_and(|page| page[tail..].iter().any(|&b| b != 0))
        {
            self.page_mut(length / PAGE_BYTES)[tail..].fill(0);
        }
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        if offset < self.length {
            self.page_mut(offset / PAGE_BYTES)[(offset % PAGE_BYTES) as usize] ^= 1 << (bit % 8);
        }
    }
}

fn page_range(offset: u64, length: u64) -> std::ops::Range<u64> {
    if length == 0 { 0..0 } else { offset / PAGE_BYTES..(offset + length).div_ceil(PAGE_BYTES) }
}
