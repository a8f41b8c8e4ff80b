//! Taking fields off the front of bytes; never panics, whatever they are.

use thiserror::Error;

/// Why bytes are no row.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// They end before the row does.
    #[error("it is cut short")]
    Cut,
    /// They go on behind the row.
    #[error("{0} bytes follow its end")]
    Longer(usize),
    /// A later release wrote it, or nobody.
    #[error("its format {0} is unknown")]
    Format(u8),
    /// There is no such table.
    #[error("table {0} is unknown")]
    Table(u8),
    /// The table has no rows in this tree.
    #[error("tree {0} has no such table")]
    Tree(u32),
    /// A field holds what it cannot hold.
    #[error("{0}")]
    Field(&'static str),
}

/// What is left of a key or a value.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(Unreadable::Cut)?;
        self.0 = left;
        Ok(taken)
    }

    pub(super) fn sixteen(&mut self) -> Result<[u8; 16], Unreadable> {
        let mut out = [0; 16];
        out.copy_from_slice(self.bytes(16)?);
        Ok(out)
    }

    /// The next `count` bytes as a number, lowest byte first.
    fn little(&mut self, count: usize) -> Result<u64, Unreadable> {
        Ok(self.bytes(count)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    /// The next `count` bytes as a number, highest byte first.
    fn big(&mut self, count: usize) -> Result<u64, Unreadable> {
        Ok(self.bytes(count)?.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(self.little(1)? as u8)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Unreadable> {
        Ok(self.little(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(self.little(4)? as u32)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Unreadable> {
        self.little(8)
    }

    pub(super) fn key_u32(&mut self) -> Result<u32, Unreadable> {
        Ok(self.big(4)? as u32)
    }

    pub(super) fn key_u64(&mut self) -> Result<u64, Unreadable> {
        self.big(8)
    }

    /// Seconds and nanoseconds.
    pub(super) fn time(&mut self) -> Result<(i64, u32), Unreadable> {
        let seconds = self.little(8)? as i64;
        let nanos = self.u32()?;
        if nanos < 1_000_000_000 {
            Ok((seconds, nanos))
        } else {
            Err(Unreadable::Field("a time has more nanoseconds than a second"))
        }
    }

    /// A length in 16 bits, then text.
    pub(super) fn text(&mut self) -> Result<String, Unreadable> {
        let length = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.bytes(length)?);
        text.map(str::to_owned).map_err(|_| Unreadable::Field("a text is no UTF-8"))
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), Unreadable> {
        if self.0.is_empty() { Ok(()) } else { Err(Unreadable::Longer(self.0.len())) }
    }
}
