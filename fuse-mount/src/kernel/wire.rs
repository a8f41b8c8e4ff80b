//! Numbers and names as they lie in a message of the device: in the byte order of the host, without gaps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A message ends where more was expected, or a name has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Takes one part of a message after the other.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

#[allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]
impl<'a> Reader<'a> {
    /// From the beginning of `message`.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_ne_bytes)
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    /// Up to the next NUL, which is passed over.
    pub(crate) fn name(&mut self) -> Result<&'a OsStr, Malformed> {
        let length = self.rest.iter().position(|&byte| byte == 0).ok_or(Malformed)?;
        let name = self.bytes(length)?;
        self.bytes(1)?;
        Ok(OsStr::from_bytes(name))
    }
}

/// Puts a message together.
pub(crate) struct Writer {
    message: Vec<u8>,
}

#[allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]
impl Writer {
    /// With room for the usual ones.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { message: Vec::with_capacity(bytes) }
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.message.extend_from_slice(bytes);
        self
    }

    /// So many zero bytes: padding, and what is reserved.
    pub(crate) fn zeros(&mut self, count: usize) -> &mut Self {
        self.message.resize(self.message.len() + count, 0);
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.message.len()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut writer = Writer::with_capacity(64);
        writer.u32(7).i32(-7).u64(1 << 40).i64(-(1 << 40)).bytes(b"name\0rest").zeros(2);
        let message = writer.finish();
        let mut reader = Reader::new(&message);
        assert_eq!(reader.u32(), Ok(7));
        assert_eq!(reader.i32(), Ok(-7));
        assert_eq!(reader.u64(), Ok(1 << 40));
        assert_eq!(reader.i64(), Ok(-(1 << 40)));
        assert_eq!(reader.name(), Ok(OsStr::new("name")));
        assert_eq!(reader.bytes(4), Ok(&b"rest"[..]));
        assert_eq!((reader.u32(), reader.bytes(2)), (Err(Malformed), Ok(&[0; 2][..])));
    }

    #[test]
    fn a_name_without_an_end_is_refused() {
        assert_eq!(Reader::new(b"name").name(), Err(Malformed));
        assert_eq!(Reader::new(b"\0").name(), Ok(OsStr::new("")));
    }
}
