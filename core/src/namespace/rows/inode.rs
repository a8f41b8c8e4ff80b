//! INODE and ORPHAN rows.
//!
//! ```text
//! INODE   key  1 | tree 1 | inode u64 BE
//!         +0  format u8 = 1      +1  kind u8         +2  mode u16       +4  links u32
//!         +8  uid u32            +12 gid u32         +16 size u64       +24 mapped_bytes u64
//!         +32 atime (i64, u32)   +44 mtime           +56 ctime          +68 btime
//!         +80 change u64         +88 data_change u64 +96 tagged fields: tag u8 | length u16 | bytes, tags ascending,
//!                                                       each left out while it holds its default
//!           1 device     rdev u64
//!           2 directory  parent u64 | next cookie u64        directories only, always there
//!           3 lease      number of the last write lease u64
//!           4 xattrs     bytes of names and values u32
//!           5 map        epoch u32 | pieces: (from u64 | data u64)*     first from = 0, strictly ascending
//!           6 policy     storage policy u32                             files and directories only
//! ORPHAN  key  12 | tree 1 | inode u64 BE       +0 format u8 = 1
//! ```
//! The map: extents of the bytes `from ..` of the file, up to the next piece, stand under `data` in EXTENT rows. The
//! default is one piece whose data id is the inode's number.

use super::codec::{Reader, Writer};
use super::{Damaged, Key, Present, Table, Value};
use crate::ids::{InodeId, LeaseNumber, PolicyId, TreeId};
use crate::namespace::attr::{Attr, NodeKind};
use crate::time::Timestamp;

const TAG_DEVICE: u8 = 1;
const TAG_DIRECTORY: u8 = 2;
const TAG_LEASE: u8 = 3;
const TAG_XATTRS: u8 = 4;
const TAG_MAP: u8 = 5;
const TAG_POLICY: u8 = 6;

/// First cookie of a directory: 1 and 2 are `.` and `..`.
pub const FIRST_COOKIE: u64 = 3;

/// Key of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodeKey(pub InodeId);

/// Key of an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrphanKey(pub InodeId);

/// A part of a file's map: extents from `from` up to the next piece stand under `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte of the file.
    pub from: u64,
    /// Data id: the inode's number, or a fresh number from the inode counter.
    pub data: u64,
}

/// An inode as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodeRow {
    /// Number, as in the key.
    pub inode: InodeId,
    /// What it is.
    pub kind: NodeKind,
    /// 0 ..= 0o7777.
    pub mode: u32,
    /// Names; 0 when an orphan.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes; entries of a directory.
    pub size: u64,
    /// Bytes in extents.
    pub mapped_bytes: u64,
    /// Access time.
    pub atime: Timestamp,
    /// Data change time.
    pub mtime: Timestamp,
    /// Inode change time.
    pub ctime: Timestamp,
    /// Birth time.
    pub btime: Timestamp,
    /// Grows with every change.
    pub change: u64,
    /// Grows with every change of data.
    pub data_change: u64,
    /// Device number.
    pub rdev: u64,
    /// Parent of a directory; the root's is itself; 0 for other kinds.
    pub parent: InodeId,
    /// Next cookie of a directory; 0 for other kinds.
    pub next_cookie: u64,
    /// Last write lease granted.
    pub lease: LeaseNumber,
    /// Bytes of names and values of extended attributes.
    pub xattr_bytes: u32,
    /// Grows when the whole map is cut off: what was cut before is no longer accounted.
    pub map_epoch: u32,
    /// Never empty.
    pub pieces: Vec<Piece>,
    /// Of a file: what its chunks have; of a directory: what is made in it has. The default one for other kinds.
    pub policy: PolicyId,
}

impl InodeRow {
    /// A new inode with one link, all times `now`.
    pub fn new(inode: InodeId, kind: NodeKind, mode: u32, now: Timestamp) -> Self {
        Self {
            inode,
            kind,
            mode,
            links: 1,
            uid: 0,
            gid: 0,
            size: 0,
            mapped_bytes: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            change: 1,
            data_change: 1,
            rdev: 0,
            parent: InodeId(0),
            next_cookie: 0,
            lease: LeaseNumber(0),
            xattr_bytes: 0,
            map_epoch: 0,
            pieces: vec![Piece { from: 0, data: inode.get() }],
            policy: PolicyId::DEFAULT,
        }
    }

    /// As `stat(2)` shows it.
    pub fn attr(&self) -> Attr {
        Attr {
            inode: self.inode,
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            links: self.links,
            size: self.size,
            mapped_bytes: self.mapped_bytes,
            rdev: self.rdev,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            change: self.change,
            data_change: self.data_change,
            policy: self.policy,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == NodeKind::Directory
    }

    /// Marks a change of the inode at `now`.
    pub fn touch(&mut self, now: Timestamp) {
        self.ctime = now;
        self.change += 1;
    }

    /// Marks a change of the data (entries, for a directory) at `now`.
    pub fn touch_data(&mut self, now: Timestamp) {
        self.mtime = now;
        self.data_change += 1;
        self.touch(now);
    }

    fn map_is_default(&self) -> bool {
        self.map_epoch == 0 && self.pieces == [Piece { from: 0, data: self.inode.get() }]
    }
}

impl Key for InodeKey {
    const TABLE: Table = Table::Inode;
    const TREE: TreeId = TreeId::MAIN;
    type Value = InodeRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(InodeId(input.u64_be()?)))
    }

    fn complete(&self, row: &mut InodeRow) {
        row.inode = self.0;
        if row.pieces.is_empty() {
            row.pieces.push(Piece { from: 0, data: self.0.get() });
        }
    }
}

impl Key for OrphanKey {
    const TABLE: Table = Table::Orphan;
    const TREE: TreeId = TreeId::MAIN;
    type Value = Present;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(InodeId(input.u64_be()?)))
    }
}

impl Value for InodeRow {
    fn write(&self, out: &mut Writer) {
        debug_assert!(self.mode <= 0o7777 && !self.pieces.is_empty());
        out.u8(self.kind as u8);
        out.u16(self.mode as u16);
        for number in [self.links, self.uid, self.gid] {
            out.u32(number);
        }
        out.u64(self.size);
        out.u64(self.mapped_bytes);
        for time in [self.atime, self.mtime, self.ctime, self.btime] {
            out.time(time);
        }
        out.u64(self.change);
        out.u64(self.data_change);
        write_tagged(self, out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let kind = NodeKind::from_number(input.u8()?).ok_or(Damaged)?;
        let mut row = Self::new(InodeId(0), kind, u32::from(input.u16()?), Timestamp::default());
        row.links = input.u32()?;
        row.uid = input.u32()?;
        row.gid = input.u32()?;
        row.size = input.u64()?;
        row.mapped_bytes = input.u64()?;
        row.atime = input.time()?;
        row.mtime = input.time()?;
        row.ctime = input.time()?;
        row.btime = input.time()?;
        row.change = input.u64()?;
        row.data_change = input.u64()?;
        row.pieces.clear();
        read_tagged(&mut row, input)?;
        let sound = row.mode <= 0o7777 && row.is_directory() == (row.next_cookie >= FIRST_COOKIE);
        if sound { Ok(row) } else { Err(Damaged) }
    }
}

fn write_tagged(row: &InodeRow, out: &mut Writer) {
    if row.rdev != 0 {
        tag(out, TAG_DEVICE, 8);
        out.u64(row.rdev);
    }
    if row.is_directory() {
        tag(out, TAG_DIRECTORY, 16);
        out.u64(row.parent.get());
        out.u64(row.next_cookie);
    }
    if row.lease.get() != 0 {
        tag(out, TAG_LEASE, 8);
        out.u64(row.lease.get());
    }
    if row.xattr_bytes != 0 {
        tag(out, TAG_XATTRS, 4);
        out.u32(row.xattr_bytes);
    }
    if !row.map_is_default() {
        tag(out, TAG_MAP, 4 + 16 * row.pieces.len());
        out.u32(row.map_epoch);
        for piece in &row.pieces {
            out.u64(piece.from);
            out.u64(piece.data);
        }
    }
    if row.policy != PolicyId::DEFAULT {
        tag(out, TAG_POLICY, 4);
        out.u32(row.policy.get());
    }
}

fn tag(out: &mut Writer, tag: u8, length: usize) {
    out.u8(tag);
    out.u16(u16::try_from(length).expect("MAP_PIECES_MAX keeps tagged fields short"));
}

fn read_tagged(row: &mut InodeRow, input: &mut Reader<'_>) -> Result<(), Damaged> {
    let mut last = 0;
    while !input.is_empty() {
        let tag = input.u8()?;
        let length = usize::from(input.u16()?);
        let mut field = Reader::new(input.take(length)?);
        if tag <= last {
            return Err(Damaged);
        }
        last = tag;
        match tag {
            TAG_DEVICE => row.rdev = field.u64()?,
            TAG_DIRECTORY => {
                row.parent = InodeId(field.u64()?);
                row.next_cookie = field.u64()?;
            }
            TAG_LEASE => row.lease = LeaseNumber(field.u64()?),
            TAG_XATTRS => row.xattr_bytes = field.u32()?,
            TAG_MAP => read_map(row, &mut field)?,
            TAG_POLICY => row.policy = PolicyId(field.u32()?),
            _ => return Err(Damaged),
        }
        field.end()?;
    }
    Ok(())
}

fn read_map(row: &mut InodeRow, field: &mut Reader<'_>) -> Result<(), Damaged> {
    row.map_epoch = field.u32()?;
    while !field.is_empty() {
        row.pieces.push(Piece { from: field.u64()?, data: field.u64()? });
    }
    let starts = row.pieces.first().is_some_and(|piece| piece.from == 0);
    let ascends = row.pieces.windows(2).all(|pair| pair[0].from < pair[1].from);
    if starts && ascends { Ok(()) } else { Err(Damaged) }
}
