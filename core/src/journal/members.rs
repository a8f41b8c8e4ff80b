//! The row that says who the masters of the group are. Written at the founding, on every member alike, and from then on by
//! entries that change the group only.
//!
//! ```text
//! key: five zero bytes, then 1
//! offset size field          all integers little-endian
//!      0    1 format         1
//!      1    1 changed        0 as founded, 1 since the first change
//!      2    2 count
//! then for each member, ids ascending:
//!           8 id             Raft id, from 1
//!          16 node           uuid of its data directory: one that lost its disk comes back as another
//!           2 length         of the address
//!           … address        host:port of its control plane
//! ```

use crate::ids::NodeId;
use crate::limits::{ADDRESS_BYTES_MAX, MASTERS_MAX};
use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

/// Key of the row.
pub const MEMBERS_KEY: [u8; 6] = [0, 0, 0, 0, 0, 1];
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 4;
const MEMBER_BYTES: usize = 26;

/// One master of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Raft id, from 1.
    pub id: u64,
    /// Uuid of its data directory; nil while it is awaited.
    pub node: NodeId,
    /// `host:port` of its control plane.
    pub address: String,
}

impl Member {
    /// Whether no node has taken its place yet.
    pub fn is_awaited(&self) -> bool {
        self.node.0.is_nil()
    }
}

/// The group, ids ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    members: Vec<Member>,
    changed: bool,
}

impl Members {
    /// A group as it is founded; `None` when two have the same id, an id is 0, an address is too long, or there are too many.
    pub fn new(members: Vec<Member>) -> Option<Self> {
        Self::with(members, false)
    }

    /// The same group with these members instead; `None` as for [`Members::new`].
    pub(super) fn changed_to(members: Vec<Member>) -> Option<Self> {
        Self::with(members, true)
    }

    fn with(mut members: Vec<Member>, changed: bool) -> Option<Self> {
        members.sort_by_key(|member| member.id);
        let valid = members.len() <= MASTERS_MAX
            && members.iter().all(|member| member.id > 0 && member.address.len() <= ADDRESS_BYTES_MAX)
            && members.windows(2).all(|pair| pair[0].id < pair[1].id);
        valid.then_some(Self { members, changed })
    }

    /// The member with this id.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether it is no longer the group that was founded.
    pub const fn has_changed(&self) -> bool {
        self.changed
    }

    /// All, ids ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// The value of the row.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.members.len() * (MEMBER_BYTES + 32));
        out.put_slice(&[FORMAT, u8::from(self.changed)]);
        out.put_u16_le(self.members.len() as u16);
        for member in &self.members {
            out.put_u64_le(member.id);
            out.put_slice(member.node.0.as_bytes());
            out.put_u16_le(member.address.len() as u16);
            out.put_slice(member.address.as_bytes());
        }
        out.into()
    }

    /// Decodes the value of the row; `None` when it is damaged or of a later format.
    pub fn decode(mut value: &[u8]) -> Option<Self> {
        if value.len() < HEAD_BYTES || value[0] != FORMAT || value[1] > 1 {
            return None;
        }
        let changed = value[1] == 1;
        value.advance(2);
        let count = usize::from(value.get_u16_le());
        let mut members = Vec::with_capacity(count.min(MASTERS_MAX));
        for _ in 0..count {
            if value.len() < MEMBER_BYTES {
                return None;
            }
            let id = value.get_u64_le();
            let mut node = [0; 16];
            value.copy_to_slice(&mut node);
            let length = usize::from(value.get_u16_le());
            let address = String::from_utf8(value.get(..length)?.to_vec()).ok()?;
            value.advance(length);
            members.push(Member { id, node: NodeId(Uuid::from_bytes(node)), address });
        }
        let ascending = members.windows(2).all(|pair| pair[0].id < pair[1].id);
        (value.is_empty() && ascending).then(|| Self::with(members, changed)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64) -> Member {
        Member {
            id,
            node: NodeId(Uuid::from_u128(u128::from(id) << 64 | 7)),
            address: format!("10.0.0.{id}:9400"),
        }
    }

    #[test]
    fn round_trips_and_refuses_cuts() {
        let members = Members::new(vec![member(3), member(1), member(2)]).unwrap();
        assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [1, 2, 3]);
        let value = members.encode();
        assert_eq!(Members::decode(&value), Some(members));
        let changed = Members::changed_to(vec![member(4)]).unwrap();
        assert!(Members::decode(&changed.encode()).unwrap().has_changed());
        assert!((0..value.len()).all(|cut| Members::decode(&value[..cut]).is_none()));
        assert_eq!(Members::decode(&Members::default().encode()), Some(Members::default()));
    }

    #[test]
    fn an_id_stands_for_one_member() {
        assert!(Members::new(vec![member(1), member(1)]).is_none());
        assert!(Members::new(vec![member(0)]).is_none());
        let many = (1..=MASTERS_MAX as u64 + 1).map(member).collect();
        assert!(Members::new(many).is_none());
    }
}
