//! INIT: which version is spoken, and what of all that the kernel offers is wanted.

use super::abi::{IN_HEADER_BYTES, InitFlags, OLDEST, VERSION, Version, opcode};
use super::channel::{Channel, Ended};
use super::reply::answer;
use super::request::Request;
use super::wire::{Malformed, Reader, Writer};
use rustix::io::Errno;
use std::io;

/// Room for INIT, and as much as the kernel wants every reader to have.
const BUFFER_BYTES: usize = 8192;

/// `struct fuse_init_in`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) version: Version,
    max_readahead: u32,
    pub(crate) flags: InitFlags,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Those that are not offered are left out.
    pub(crate) flags: InitFlags,
    /// Largest read or write.
    pub(crate) request_bytes_max: u32,
    /// Requests that no program waits for, at a time.
    pub(crate) background_max: u16,
}

/// Answers INIT with what `choose` wants.
///
/// # Errors
/// The kernel is too old, or does not begin with INIT.
pub(crate) fn shake_hands(channel: &Channel, choose: impl FnOnce(&Offer) -> Wanted) -> io::Result<()> {
    let mut message = Vec::with_capacity(BUFFER_BYTES);
    loop {
        channel.receive(&mut message).map_err(|ended| match ended {
            Ended::Unmounted => io::Error::other("it was unmounted at once"),
            Ended::Failed(error) => error.into(),
        })?;
        let nonsense = |Malformed| io::Error::other("the kernel does not begin with INIT");
        let request = Request::parse(&message).map_err(nonsense)?;
        let refuse = |error: Errno| answer(channel, request.unique(), error.raw_os_error(), &[]);
        if request.opcode != opcode::INIT {
            refuse(Errno::IO);
            return Err(nonsense(Malformed));
        }
        let offer = Offer::parse(&message).map_err(nonsense)?;
        let Version(major, minor) = offer.version;
        if major > VERSION.0 {
            // It asks once more, in words that we know.
            answer(channel, request.unique(), 0, &version_only());
            continue;
        }
        if offer.version < OLDEST {
            refuse(Errno::PROTO);
            let Version(_, oldest) = OLDEST;
            let text = format!("the kernel speaks FUSE {major}.{minor}; 7.{oldest} (Linux 3.15) is needed");
            return Err(io::Error::other(text));
        }
        let accepted = accept(&offer, &choose(&offer));
        return match answer(channel, request.unique(), 0, &accepted) {
            true => Ok(()),
            false => Err(io::Error::other("the kernel did not take the answer to INIT")),
        };
    }
}

impl Offer {
    fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message.get(IN_HEADER_BYTES..).ok_or(Malformed)?);
        let version = Version(reader.u32()?, reader.u32()?);
        let (max_readahead, low) = (reader.u32()?, InitFlags(reader.u32()?.into()));
        let high = if low.contains(InitFlags::FUSE_INIT_EXT) { u64::from(reader.u32()?) << 32 } else { 0 };
        Ok(Self { version, max_readahead, flags: low.union(InitFlags(high)) })
    }
}

/// `struct fuse_init_out`, 64 bytes.
fn accept(offer: &Offer, wanted: &Wanted) -> Vec<u8> {
    let formal = InitFlags::FUSE_MAX_PAGES.union(InitFlags::FUSE_INIT_EXT);
    let InitFlags(flags) = wanted.flags.union(formal).intersection(offer.flags);
    let pages = wanted.request_bytes_max.max(offer.max_readahead).div_ceil(rustix::param::page_size() as u32);
    let congested = (u32::from(wanted.background_max) * 3 / 4) as u16;
    let mut out = Writer::with_capacity(64);
    out.u32(VERSION.0).u32(VERSION.1).u32(offer.max_readahead).u32(flags as u32);
    out.u16(wanted.background_max).u16(congested).u32(wanted.request_bytes_max);
    // Times are exact to the nanosecond.
    out.u32(1).u16(u16::try_from(pages).unwrap_or(u16::MAX)).u16(0).u32((flags >> 32) as u32).zeros(28);
    out.finish()
}

fn version_only() -> Vec<u8> {
    let mut out = Writer::with_capacity(64);
    out.u32(VERSION.0).u32(VERSION.1).zeros(56);
    out.finish()
}

#[cfg(test)]
#[allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]
mod tests {
    use super::*;

    fn init(version: Version, flags: u64) -> Vec<u8> {
        let mut out = Writer::with_capacity(104);
        out.u32(104).u32(opcode::INIT).u64(2).zeros(24);
        out.u32(version.0).u32(version.1).u32(131_072).u32(flags as u32).u32((flags >> 32) as u32).zeros(44);
        out.finish()
    }

    const WANTED: Wanted = Wanted {
        flags: InitFlags(1 << 0 | 1 << 5 | 1 << 36),
        request_bytes_max: 1 << 20,
        background_max: 64,
    };

    #[test]
    fn what_is_offered_and_wanted_is_taken() {
        let offered = 1 << 0 | 1 << 1 | 1 << 22 | 1 << 30 | 1 << 36;
        let offer = Offer::parse(&init(Version(7, 44), offered)).unwrap();
        assert_eq!((offer.version, offer.flags), (Version(7, 44), InitFlags(offered)));
        let out = accept(&offer, &WANTED);
        assert_eq!(out.len(), 64);
        let at = |from: usize| u32::from_ne_bytes(out[from..from + 4].try_into().unwrap());
        assert_eq!([at(0), at(4), at(8)], [7, 40, 131_072]);
        assert_eq!((at(12), at(32)), (1 << 0 | 1 << 22 | 1 << 30, 1 << 4), "not the lock, not BIG_WRITES");
        assert_eq!(out[16..20], [64, 0, 48, 0]);
        assert_eq!((at(20), at(24), at(28)), (1 << 20, 1, 256));
        assert!(out[36..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn flags_beyond_32_bits_count_only_with_their_mark() {
        assert_eq!(Offer::parse(&init(Version(7, 31), 1 << 36 | 1)).unwrap().flags, InitFlags(1));
        // Before 7.36 the message ended there.
        assert_eq!(Offer::parse(&init(Version(7, 31), 1)[..56]).unwrap().flags, InitFlags(1));
        assert_eq!(Offer::parse(&init(Version(7, 31), 1)[..54]), Err(Malformed));
    }
}
