//! Attributes and times.

use crate::convert::{ConvertError, optional, required};
use crate::v1::{self, time_set};
use cairn_core::ids::{InodeId, PolicyId};
use cairn_core::namespace::attr::{Attr, AttrChanges, NodeKind, TimeSet};
use cairn_core::time::Timestamp;

/// Permission bits with setuid, setgid and sticky.
const MODE_BITS: u32 = 0o7777;

/// Core and wire share the numbers of kinds; the stored form uses them as well.
pub(super) fn kind_number(kind: NodeKind) -> i32 {
    kind as i32
}

pub(super) fn kind(number: i32) -> Result<NodeKind, ConvertError> {
    u8::try_from(number).ok().and_then(NodeKind::from_number).ok_or(ConvertError::Invalid("node kind"))
}

fn timestamp(seconds: i64, nanos: u32) -> Result<Timestamp, ConvertError> {
    if nanos >= 1_000_000_000 {
        return Err(ConvertError::Invalid("nanoseconds"));
    }
    Ok(Timestamp { seconds, nanos })
}

fn mode_bits(mode: u32) -> Result<u32, ConvertError> {
    if mode & !MODE_BITS != 0 { Err(ConvertError::Invalid("mode")) } else { Ok(mode) }
}

impl From<Timestamp> for v1::Timestamp {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanos: time.nanos }
    }
}

impl TryFrom<v1::Timestamp> for Timestamp {
    type Error = ConvertError;

    fn try_from(wire: v1::Timestamp) -> Result<Self, ConvertError> {
        timestamp(wire.seconds, wire.nanos)
    }
}

impl From<TimeSet> for v1::TimeSet {
    fn from(time: TimeSet) -> Self {
        let time = match time {
            TimeSet::Now => time_set::Time::Now(true),
            TimeSet::At(time) => time_set::Time::At(time.into()),
        };
        Self { time: Some(time) }
    }
}

impl TryFrom<v1::TimeSet> for TimeSet {
    type Error = ConvertError;

    fn try_from(wire: v1::TimeSet) -> Result<Self, ConvertError> {
        match required(wire.time, "time")? {
            time_set::Time::Now(true) => Ok(Self::Now),
            time_set::Time::Now(false) => Err(ConvertError::Invalid("time.now")),
            time_set::Time::At(time) => Ok(Self::At(time.try_into()?)),
        }
    }
}

impl From<AttrChanges> for v1::AttrChanges {
    fn from(changes: AttrChanges) -> Self {
        Self {
            mode: changes.mode,
            uid: changes.uid,
            gid: changes.gid,
            size: changes.size,
            atime: changes.atime.map(Into::into),
            mtime: changes.mtime.map(Into::into),
        }
    }
}

impl TryFrom<v1::AttrChanges> for AttrChanges {
    type Error = ConvertError;

    fn try_from(wire: v1::AttrChanges) -> Result<Self, ConvertError> {
        Ok(Self {
            mode: wire.mode.map(mode_bits).transpose()?,
            uid: wire.uid,
            gid: wire.gid,
            size: wire.size,
            atime: optional(wire.atime)?,
            mtime: optional(wire.mtime)?,
        })
    }
}

impl From<Attr> for v1::Attr {
    fn from(attr: Attr) -> Self {
        Self {
            inode: attr.inode.get(),
            kind: kind_number(attr.kind),
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            links: attr.links,
            size: attr.size,
            mapped_bytes: attr.mapped_bytes,
            rdev: attr.rdev,
            atime_seconds: attr.atime.seconds,
            atime_nanos: attr.atime.nanos,
            mtime_seconds: attr.mtime.seconds,
            mtime_nanos: attr.mtime.nanos,
            ctime_seconds: attr.ctime.seconds,
            ctime_nanos: attr.ctime.nanos,
            btime_seconds: attr.btime.seconds,
            btime_nanos: attr.btime.nanos,
            change: attr.change,
            data_change: attr.data_change,
            policy: attr.policy.get(),
        }
    }
}

impl TryFrom<v1::Attr> for Attr {
    type Error = ConvertError;

    fn try_from(wire: v1::Attr) -> Result<Self, ConvertError> {
        Ok(Self {
            inode: InodeId(wire.inode),
            kind: kind(wire.kind)?,
            mode: mode_bits(wire.mode)?,
            uid: wire.uid,
            gid: wire.gid,
            links: wire.links,
            size: wire.size,
            mapped_bytes: wire.mapped_bytes,
            rdev: wire.rdev,
            atime: timestamp(wire.atime_seconds, wire.atime_nanos)?,
            mtime: timestamp(wire.mtime_seconds, wire.mtime_nanos)?,
            ctime: timestamp(wire.ctime_seconds, wire.ctime_nanos)?,
            btime: timestamp(wire.btime_seconds, wire.btime_nanos)?,
            change: wire.change,
            data_change: wire.data_change,
            policy: PolicyId(wire.policy),
        })
    }
}
