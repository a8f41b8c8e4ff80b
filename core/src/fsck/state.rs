//! The state under examination: rows looked up, and tables read in order, page by page.
//!
//! Rows that cannot be read are as if they were not there: rule F1 has reported them.

use super::decode;
use super::keys::Table;
use super::row::Row;
use crate::namespace::machine::{RowError, Rows};
use bytes::Bytes;
use std::cell::Cell;
use std::collections::VecDeque;
use thiserror::Error;

/// Rows of one page: at the most 64 KiB each, so a page is small.
const PAGE: usize = 256;
/// Rows read between two looks at whether to go on.
const LOOK_EVERY: u64 = 1024;

/// Why a check came to no end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Interrupted {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RowError),
    /// Whoever asked has gone.
    #[error("nobody waits for the outcome any more")]
    Abandoned,
}

/// A row, unless it cannot be read. Why it cannot is not lost: `every_row` decodes each row of the state once more and reports it.
fn readable(key: &[u8], value: &[u8]) -> Option<Row> {
    decode::row(key, value).ok()
}

/// Rows, and whether to go on.
pub(super) struct State<'a> {
    rows: &'a dyn Rows,
    goes_on: &'a dyn Fn() -> bool,
    read: Cell<u64>,
}

impl<'a> State<'a> {
    pub(super) fn new(rows: &'a dyn Rows, goes_on: &'a dyn Fn() -> bool) -> Self {
        Self { rows, goes_on, read: Cell::new(0) }
    }

    /// One row, if it is there and readable.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Row>, Interrupted> {
        self.count(1)?;
        let value = self.rows.get(key)?;
        Ok(value.and_then(|value| readable(key, &value)))
    }

    pub(super) fn has(&self, key: &[u8]) -> Result<bool, Interrupted> {
        Ok(self.get(key)?.is_some())
    }

    /// The rows of a table, in order.
    pub(super) fn table(&self, table: Table) -> Cursor<'_> {
        self.from(table, table.head())
    }

    /// The rows of a table from a key on.
    pub(super) fn from(&self, table: Table, from: Vec<u8>) -> Cursor<'_> {
        let mut to = table.head();
        // The tree is 0 or 1: its last byte can be raised.
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Cursor { raw: RawCursor::new(self, from, to), head: None }
    }

    /// Every row, whatever its table.
    pub(super) fn all(&self) -> RawCursor<'_> {
        RawCursor::new(self, Vec::new(), vec![0xff; 600])
    }

    /// The last row of a table, if it is readable.
    pub(super) fn last(&self, table: Table) -> Result<Option<Row>, Interrupted> {
        let from = table.head();
        let mut to = from.clone();
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        let rows = self.rows.scan_reverse(&from, &to, 1)?;
        Ok(rows.first().and_then(|(key, value)| readable(key, value)))
    }

    fn count(&self, rows: u64) -> Result<(), Interrupted> {
        let before = self.read.get();
        self.read.set(before + rows);
        let due = before / LOOK_EVERY != (before + rows) / LOOK_EVERY;
        if due && !(self.goes_on)() { Err(Interrupted::Abandoned) } else { Ok(()) }
    }
}

/// Rows in order, as bytes.
pub(super) struct RawCursor<'a> {
    state: &'a State<'a>,
    from: Vec<u8>,
    to: Vec<u8>,
    page: VecDeque<(Bytes, Bytes)>,
    ended: bool,
}

impl<'a> RawCursor<'a> {
    fn new(state: &'a State<'a>, from: Vec<u8>, to: Vec<u8>) -> Self {
        Self { state, from, to, page: VecDeque::new(), ended: false }
    }

    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Interrupted> {
        if self.page.is_empty() && !self.ended {
            let page = self.state.rows.scan(&self.from, &self.to, PAGE)?;
            self.state.count(page.len() as u64)?;
            self.ended = page.len() < PAGE;
            if let Some((last, _)) = page.last() {
                self.from = [&last[..], &[0]].concat();
            }
            self.page = page.into();
        }
        Ok(self.page.pop_front())
    }
}

/// Readable rows of one table, in order.
pub(super) struct Cursor<'a> {
    raw: RawCursor<'a>,
    head: Option<Row>,
}

impl Cursor<'_> {
    /// The row that [`Cursor::next`] would take.
    pub(super) fn peek(&mut self) -> Result<Option<&Row>, Interrupted> {
        while self.head.is_none() {
            let Some((key, value)) = self.raw.next()? else { return Ok(None) };
            self.head = readable(&key, &value);
        }
        Ok(self.head.as_ref())
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, Interrupted> {
        self.peek()?;
        Ok(self.head.take())
    }

    /// The next row, if `wanted` says so.
    pub(super) fn next_if(&mut self, wanted: impl Fn(&Row) -> bool) -> Result<Option<Row>, Interrupted> {
        match self.peek()? {
            Some(row) if wanted(row) => Ok(self.head.take()),
            _ => Ok(None),
        }
    }
}
