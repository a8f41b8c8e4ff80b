//! Keys of rows, for looking them up; drawn in docs/FORMATS.md, and built here anew for the same reason as the decoder.

use super::decode::TABLES;

/// Number of a table, as the rules name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Table {
    Inode = 1,
    Dentry = 2,
    Listing = 3,
    Backlink = 4,
    Xattr = 5,
    Symlink = 6,
    Extent = 7,
    Chunk = 8,
    ServerChunk = 9,
    Session = 10,
    Slot = 11,
    Orphan = 12,
    Lease = 13,
    LeasedChunk = 14,
    SessionChunk = 15,
    DeleteReplica = 16,
    Reconcile = 17,
    Server = 18,
    ServerNode = 19,
    Counter = 20,
    Garbage = 21,
    Cluster = 22,
    SessionLease = 23,
    Repair = 24,
    Policy = 25,
    DiskDrain = 26,
}

impl Table {
    /// First bytes of its keys.
    pub(super) fn head(self) -> Vec<u8> {
        let number = self as u8;
        let tree = TABLES.iter().find(|table| table.0 == number).map_or(0, |table| table.1);
        [&[number][..], &tree.to_be_bytes()].concat()
    }

    /// The key of a row with one id of eight bytes.
    pub(super) fn key(self, id: u64) -> Vec<u8> {
        [&self.head()[..], &id.to_be_bytes()].concat()
    }

    /// The key of a row with two of them.
    pub(super) fn key_of_two(self, first: u64, second: u64) -> Vec<u8> {
        [&self.key(first)[..], &second.to_be_bytes()].concat()
    }

    /// The key of a row with an id and a name.
    pub(super) fn key_of_name(self, id: u64, name: &[u8]) -> Vec<u8> {
        [&self.key(id)[..], name].concat()
    }

    /// The key of a row with the id of a chunk server.
    pub(super) fn key_of_server(self, server: u32) -> Vec<u8> {
        [&self.head()[..], &server.to_be_bytes()].concat()
    }

    /// The key of a row with the ids of a chunk server and a chunk.
    pub(super) fn key_of_replica(self, server: u32, chunk: u64) -> Vec<u8> {
        [&self.key_of_server(server)[..], &chunk.to_be_bytes()].concat()
    }
}

/// The key of a REPAIR row.
pub(super) fn repair(copies: u8, chunk: u64) -> Vec<u8> {
    [&Table::Repair.head()[..], &[copies], &chunk.to_be_bytes()].concat()
}

/// The key of a BACKLINK row.
pub(super) fn backlink(inode: u64, parent: u64, name: &[u8]) -> Vec<u8> {
    [&Table::Backlink.key_of_two(inode, parent)[..], name].concat()
}
