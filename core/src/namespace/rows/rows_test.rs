//! Every row comes back as it was written; no bytes make a decoder panic; keys sort as their ids do.

use super::capacity::{CapacityKey, CapacityRow};
use super::chunk::{
    ChunkKey, ChunkRow, DeleteReplicaKey, ReconcileKey, ReconcileReason, ReconcileRow, RepairKey, RepairRow,
    ServerChunkKey, VersionRow,
};
use super::cluster::{
    ClusterKey, ClusterRow, CounterKey, Draining, NumberRow, ServerKey, ServerNodeKey, ServerNodeRow,
    ServerRow,
};
use super::extent::{ExtentKey, ExtentRow, GarbageKey, GarbageRow};
use super::inode::{FIRST_COOKIE, InodeKey, InodeRow, OrphanKey, Piece};
use super::lease::{LeaseKey, LeaseRow, LeasedChunkKey, SessionChunkKey, SessionLeaseKey};
use super::names::{BacklinkKey, DentryKey, DentryRow, ListingKey, ListingRow};
use super::policy::{PolicyKey, PolicyRow, PolicyWalkKey, PolicyWalkRow};
use super::session::{SessionKey, SessionRow, SlotKey, SlotRow};
use super::xattr::{Blob, SymlinkKey, XattrKey};
use super::{Key, Present, Value, prefix_range};
use crate::cluster::{Labels, Policy};
use crate::ids::{
    ChunkId, ChunkVersion, ClusterId, InodeId, LeaseNumber, NodeId, PolicyId, Sequence, ServerId, SessionId,
    SlotId,
};
use crate::namespace::attr::NodeKind;
use crate::namespace::name::Name;
use crate::time::Timestamp;
use bytes::Bytes;
use proptest::prelude::*;
use std::fmt::Debug;

fn round_trip<K: Key + PartialEq + Debug>(key: K, value: K::Value) -> Result<(), TestCaseError>
where
    K::Value: PartialEq + Debug,
{
    let (raw_key, raw_value) = (key.encode(), value.encode());
    let mut decoded = K::Value::decode(&raw_value).unwrap();
    key.complete(&mut decoded);
    prop_assert_eq!(&decoded, &value);
    prop_assert_eq!(K::decode(&raw_key), Ok(key));
    let (from, to) = prefix_range::<K>(&[]);
    prop_assert!(from <= raw_key && raw_key < to);
    Ok(())
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn kind() -> impl Strategy<Value = NodeKind> {
    (1u8..=7).prop_map(|number| NodeKind::from_number(number).unwrap())
}

fn name() -> impl Strategy<Value = Name> {
    let raw = proptest::collection::vec(
        any::<u8>().prop_filter("no / and NUL", |byte| ![0, b'/'].contains(byte)),
        1..=255,
    );
    raw.prop_filter_map("no . and ..", |raw| Name::new(raw).ok())
}

fn inode_row() -> impl Strategy<Value = InodeRow> {
    let pieces = proptest::collection::btree_map(1u64.., any::<u64>(), 0..32);
    let numbers = (0u32..=0o7777, any::<[u32; 5]>(), any::<[u64; 7]>());
    (any::<u64>(), kind(), numbers, [time(), time(), time(), time()], pieces).prop_map(
        |(inode, kind, (mode, small, large), [atime, mtime, ctime, btime], more)| {
            let mut row = InodeRow::new(InodeId(inode), kind, mode, atime);
            [row.links, row.uid, row.gid, row.xattr_bytes, row.map_epoch] = small;
            [row.size, row.mapped_bytes, row.change, row.data_change, row.rdev, _, _] = large;
            (row.mtime, row.ctime, row.btime, row.lease) = (mtime, ctime, btime, LeaseNumber(large[6]));
            if kind == NodeKind::Directory {
                (row.parent, row.next_cookie) = (InodeId(large[5]), FIRST_COOKIE + large[6] / 2);
            }
            row.policy = PolicyId(large[0] as u32);
            row.pieces.extend(more.into_iter().map(|(from, data)| Piece { from, data }));
            row
        },
    )
}

proptest! {
    #[test]
    fn rows_of_inodes_and_names(row in inode_row(), name in name(), kind in kind(), ids in any::<[u64; 3]>()) {
        let [a, b, c] = ids;
        let (inode, parent) = (InodeId(a), InodeId(b));
        round_trip(InodeKey(row.inode), row)?;
        round_trip(OrphanKey(inode), Present)?;
        round_trip(DentryKey { parent, name: name.clone() }, DentryRow { kind, inode, cookie: c })?;
        round_trip(ListingKey { parent, cookie: c }, ListingRow { kind, inode, name: name.clone() })?;
        round_trip(BacklinkKey { inode, parent, name: name.clone() }, Present)?;
        round_trip(XattrKey { inode, name: name.to_bytes() }, Blob(name.to_bytes()))?;
        round_trip(SymlinkKey(inode), Blob(name.to_bytes()))?;
    }

    #[test]
    fn rows_of_maps_and_chunks(
        ids in any::<[u64; 6]>(), length in 1u32..=64 << 20, at in time(), flag in any::<bool>(),
        servers in proptest::collection::vec(any::<u32>().prop_map(ServerId), 0..=8), minimum in any::<u8>(),
    ) {
        let [data, offset, number, epoch, a, b] = ids;
        let chunk = ChunkId(number);
        let chunk_offset = ((64 << 20) - length) / 2;
        round_trip(ExtentKey { data, offset }, ExtentRow { chunk, chunk_offset, length })?;
        round_trip(GarbageKey { data, from: offset }, GarbageRow { to: a, inode: InodeId(b), epoch: epoch as u32 })?;
        let (version, raising) = (ChunkVersion(a.min(b)), ChunkVersion(a.max(b)));
        let (references, owner, inode) = (epoch, SessionId(data), InodeId(offset));
        let wanted = 1 + (epoch % 8) as u8;
        let policy = PolicyId(epoch as u32);
        let row = ChunkRow { minimum, wanted, policy, reconciling: flag, version, raising, references, owner, inode, servers };
        round_trip(ChunkKey(chunk), row)?;
        let server = ServerId(epoch as u32);
        round_trip(ServerChunkKey { server, chunk }, VersionRow(version))?;
        round_trip(DeleteReplicaKey { server, chunk }, VersionRow(version))?;
        let reason = if flag { ReconcileReason::Writer } else { ReconcileReason::Raise };
        round_trip(ReconcileKey(chunk), ReconcileRow { reason, since: at })?;
        round_trip(RepairKey { copies: minimum, chunk }, RepairRow { since: at })?;
        let (total_bytes, used_bytes) = (version.get(), version.get() / 2);
        let row = CapacityRow { total_bytes, used_bytes, chunks: chunk.get(), inodes: 7 };
        round_trip(CapacityKey(u32::from(minimum)), row)?;
        let required = Labels::parse(["media=ssd", "rack=7"].iter().take(usize::from(minimum) % 3)).unwrap();
        let says = Policy { name: "a-name".into(), replicas: wanted, minimum: 1 + wanted / 2, required };
        let row = PolicyRow { policy: says, inodes: a, chunks: b };
        round_trip(PolicyKey(policy), row)?;
        let row = PolicyWalkRow { again: flag, next: chunk, since: at, changed: b };
        round_trip(PolicyWalkKey, row)?;
    }

    #[test]
    fn rows_of_sessions_and_the_cluster(
        ids in any::<[u64; 3]>(), uuid in any::<u128>(), at in time(), text in ".{0,40}", flag in any::<bool>(),
        answer in proptest::collection::vec(any::<u8>(), 0..100), small in any::<u32>(), secret in any::<[u8; 16]>(),
    ) {
        let [a, b, c] = ids;
        let (session, inode, chunk) = (SessionId(a), InodeId(b), ChunkId(c));
        let node = NodeId(uuid::Uuid::from_u128(uuid));
        round_trip(LeaseKey(inode), LeaseRow { session, lease: LeaseNumber(c), marks: small })?;
        round_trip(SessionLeaseKey { session, inode }, Present)?;
        round_trip(LeasedChunkKey { inode, chunk }, Present)?;
        round_trip(SessionChunkKey { session, chunk }, Present)?;
        let row = SessionRow { ending: flag, secret, node, opened: at, description: text.clone() };
        round_trip(SessionKey(session), row)?;
        let slot = SlotRow { sequence: Sequence(b), answer: Bytes::from(answer) };
        round_trip(SlotKey { session, slot: SlotId(small) }, slot)?;
        let labels = Labels::parse([format!("rack={small}"), "host=h-1".to_owned()]).unwrap();
        let draining = flag.then_some(Draining { since: at, replicas: a });
        let row = ServerRow { node, data_address: text.clone(), http_address: text, labels, draining };
        round_trip(ServerKey(ServerId(small)), row)?;
        round_trip(ServerNodeKey(node), ServerNodeRow(ServerId(small)))?;
        round_trip(CounterKey::ChunksGone, NumberRow(a))?;
        let cluster = ClusterId(node.0);
        let row = ClusterRow { cluster, default_replicas: small as u8, feature_level: small, formatted: at };
        round_trip(ClusterKey, row)?;
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..160), table in 0u8..30) {
        read_all(&bytes);
        if let [first, rest @ ..] = &mut bytes[..] {
            *first = 1;
            rest.iter_mut().take(4).for_each(|byte| *byte = 0);
            read_all(&bytes);
            bytes[0] = table;
            read_all(&bytes);
        }
    }

    #[test]
    fn a_flipped_or_missing_byte_of_an_inode_never_panics(row in inode_row(), at in any::<usize>(), bit in 0u8..8) {
        let whole = row.encode();
        let mut flipped = whole.to_vec();
        flipped[at % whole.len()] ^= 1 << bit;
        let _ = InodeRow::decode(&flipped);
        prop_assert!(InodeRow::decode(&whole[..at % whole.len().min(96)]).is_err());
    }

    #[test]
    fn keys_sort_as_their_ids_do(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
        let key = |(data, offset)| ExtentKey { data, offset };
        prop_assert_eq!(key(a).encode().cmp(&key(b).encode()), a.cmp(&b));
    }
}

/// Decodes bytes as every key and every value.
fn read_all(bytes: &[u8]) {
    fn read<K: Key>(bytes: &[u8]) {
        let _ = (K::decode(bytes).is_ok(), K::Value::decode(bytes).is_ok());
    }
    read::<InodeKey>(bytes);
    read::<DentryKey>(bytes);
    read::<ListingKey>(bytes);
    read::<BacklinkKey>(bytes);
    read::<XattrKey>(bytes);
    read::<SymlinkKey>(bytes);
    read::<ExtentKey>(bytes);
    read::<GarbageKey>(bytes);
    read::<ChunkKey>(bytes);
    read::<ServerChunkKey>(bytes);
    read::<ReconcileKey>(bytes);
    read::<LeaseKey>(bytes);
    read::<SessionKey>(bytes);
    read::<SlotKey>(bytes);
    read::<ServerKey>(bytes);
    read::<ServerNodeKey>(bytes);
    read::<CounterKey>(bytes);
    read::<ClusterKey>(bytes);
}

#[test]
fn the_layout_of_an_inode_is_what_the_head_draws() {
    let time = |n| Timestamp { seconds: n, nanos: n as u32 };
    let mut row = InodeRow::new(InodeId(5), NodeKind::Directory, 0o1755, time(1));
    (row.links, row.uid, row.gid, row.size, row.mapped_bytes) = (2, 3, 4, 5, 6);
    (row.mtime, row.ctime, row.btime, row.change, row.data_change) = (time(2), time(3), time(4), 7, 8);
    (row.parent, row.next_cookie) = (InodeId(1), 9);
    let raw = row.encode();
    let u64_at = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
    assert_eq!(raw[..4], [1, NodeKind::Directory as u8, 0xed, 0x03]);
    assert_eq!([u32_at(4), u32_at(8), u32_at(12)], [2, 3, 4]);
    assert_eq!([u64_at(16), u64_at(24), u64_at(32), u64_at(44), u64_at(56), u64_at(68)], [5, 6, 1, 2, 3, 4]);
    assert_eq!([u64_at(80), u64_at(88)], [7, 8]);
    assert_eq!((raw[96], u64_at(99), u64_at(107), raw.len()), (2, 1, 9, 115));
    assert_eq!(InodeKey(InodeId(0x0102)).encode()[..], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn unknown_formats_and_trailing_bytes_are_damage() {
    let raw = VersionRow(ChunkVersion(1)).encode();
    let mut newer = raw.to_vec();
    newer[0] = 2;
    assert!(VersionRow::decode(&newer).is_err());
    let mut longer = raw.to_vec();
    longer.push(0);
    assert!(VersionRow::decode(&longer).is_err());
    assert!(VersionRow::decode(&[]).is_err());
}
