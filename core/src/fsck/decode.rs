//! Rows from bytes, as docs/FORMATS.md draws them ("Metadata rows", "The applied row", "The members row").
//!
//! A second decoder on purpose: it shares no code with `namespace::rows`, so that a fault in a codec there is found here
//! instead of being repeated.

use super::fields::{Fields, Unreadable};
use super::row::{Applied, Chunk, DIRECTORY, Id, Inode, Member, Row, Text};

/// Every table: its number, its tree, its name.
pub const TABLES: [(u8, u32, &str); 29] = [
    (1, 1, "INODE"),
    (2, 1, "DENTRY"),
    (3, 1, "LISTING"),
    (4, 1, "BACKLINK"),
    (5, 1, "XATTR"),
    (6, 1, "SYMLINK"),
    (7, 1, "EXTENT"),
    (8, 0, "CHUNK"),
    (9, 0, "SERVER_CHUNK"),
    (10, 0, "SESSION"),
    (11, 0, "SLOT"),
    (12, 1, "ORPHAN"),
    (13, 1, "LEASE"),
    (14, 1, "LEASED_CHUNK"),
    (15, 0, "SESSION_CHUNK"),
    (16, 0, "DELETE_REPLICA"),
    (17, 0, "RECONCILE"),
    (18, 0, "SERVER"),
    (19, 0, "SERVER_NODE"),
    (20, 0, "COUNTER"),
    (21, 1, "GARBAGE"),
    (22, 0, "CLUSTER"),
    (23, 1, "SESSION_LEASE"),
    (24, 0, "REPAIR"),
    (25, 0, "POLICY"),
    (26, 0, "DISK_DRAIN"),
    (27, 0, "REBALANCE"),
    (28, 0, "CAPACITY"),
    (29, 0, "POLICY_WALK"),
];

const CHUNK_BYTES: u64 = 64 << 20;
const REPLICAS_MAX: usize = 8;
const NAME_MAX: usize = 255;
const LABELS_MAX: usize = 16;
const LABEL_MAX: usize = 63;
const POLICY_NAME_MAX: usize = 63;

/// Name of the table that a key belongs to.
pub fn table_name(key: &[u8]) -> &'static str {
    match key {
        [0, 0, 0, 0, 0] => "APPLIED",
        [0, 0, 0, 0, 0, 1] => "MEMBERS",
        [number, ..] => TABLES.iter().find(|table| table.0 == *number).map_or("unknown", |table| table.2),
        [] => "unknown",
    }
}

/// Decodes one row.
///
/// # Errors
/// What is wrong with it; whatever the bytes are.
pub fn row(key: &[u8], value: &[u8]) -> Result<Row, Unreadable> {
    let (mut key, mut value) = (Fields::of(key), Fields::of(value));
    let (table, tree) = (key.u8()?, key.key_u32()?);
    let format = value.u8()?;
    if table == 0 {
        return own_row(tree, &mut key, format, &mut value);
    }
    let known = TABLES.iter().find(|known| known.0 == table).ok_or(Unreadable::Table(table))?;
    if known.1 != tree {
        return Err(Unreadable::Tree(tree));
    }
    let newest = match table {
        8 => 3,
        18 => 2,
        _ => 1,
    };
    if format != newest {
        return Err(Unreadable::Format(format));
    }
    let row = match table {
        1..=6 | 12 => of_names(table, &mut key, &mut value)?,
        7..=9 | 16 | 17 | 21 | 24 => of_chunks(table, &mut key, &mut value)?,
        10 | 11 | 13..=15 | 23 => of_sessions(table, &mut key, &mut value)?,
        _ => of_cluster(table, &mut key, &mut value)?,
    };
    key.end()?;
    value.end()?;
    Ok(row)
}

/// The rows of table 0: the member's own books.
fn own_row(tree: u32, key: &mut Fields<'_>, format: u8, value: &mut Fields<'_>) -> Result<Row, Unreadable> {
    if tree != 0 {
        return Err(Unreadable::Tree(tree));
    }
    if format != 1 {
        return Err(Unreadable::Format(format));
    }
    let row = match key.rest() {
        [] => Row::Applied(applied(value)?),
        [1] => Row::Members(members(value)?),
        _ => return Err(Unreadable::Field("no row of table 0 has this key")),
    };
    value.end()?;
    Ok(row)
}

fn applied(value: &mut Fields<'_>) -> Result<Applied, Unreadable> {
    value.bytes(3)?;
    let feature = value.u32()?;
    let (index, term, hash) = (value.u64()?, value.u64()?, value.u64()?);
    let time = value.time()?;
    let (voters, learners) = (value.u16()?, value.u16()?);
    let mut ids = |count: u16| (0..count).map(|_| value.u64()).collect::<Result<Vec<_>, _>>();
    Ok(Applied { feature, index, term, hash, time, voters: ids(voters)?, learners: ids(learners)? })
}

fn members(value: &mut Fields<'_>) -> Result<Vec<Member>, Unreadable> {
    if value.u8()? > 1 {
        return Err(Unreadable::Field("`changed` is neither 0 nor 1"));
    }
    let count = value.u16()?;
    let member = |_| Ok(Member { id: value.u64()?, node: Id(value.sixteen()?), address: value.text()? });
    let members = (0..count).map(member).collect::<Result<Vec<_>, Unreadable>>()?;
    let ascending = members.windows(2).all(|pair| pair[0].id < pair[1].id);
    if ascending { Ok(members) } else { Err(Unreadable::Field("the ids of its members do not ascend")) }
}

fn of_names(table: u8, key: &mut Fields<'_>, value: &mut Fields<'_>) -> Result<Row, Unreadable> {
    let first = key.key_u64()?;
    Ok(match table {
        1 => Row::Inode(inode(first, value)?),
        2 => {
            let name = name(key.rest())?;
            Row::Dentry { parent: first, name, kind: kind(value)?, inode: value.u64()?, cookie: value.u64()? }
        }
        3 => {
            let cookie = key.key_u64()?;
            let (kind, inode) = (kind(value)?, value.u64()?);
            Row::Listing { parent: first, cookie, kind, inode, name: name(value.rest())? }
        }
        4 => Row::Backlink { inode: first, parent: key.key_u64()?, name: name(key.rest())? },
        5 => {
            let name = Text(key.rest().to_vec());
            Row::Xattr { inode: first, name, value_bytes: value.rest().len() }
        }
        6 => Row::Symlink { inode: first, target: Text(value.rest().to_vec()) },
        _ => Row::Orphan { inode: first },
    })
}

fn of_chunks(table: u8, key: &mut Fields<'_>, value: &mut Fields<'_>) -> Result<Row, Unreadable> {
    Ok(match table {
        7 => {
            let (data, offset) = (key.key_u64()?, key.key_u64()?);
            let (chunk, chunk_offset, length) = (value.u64()?, value.u32()?, value.u32()?);
            if value.u8()? != 0 {
                return Err(Unreadable::Field("an extent has unknown flags"));
            }
            let fits = length > 0 && u64::from(chunk_offset) + u64::from(length) <= CHUNK_BYTES;
            if !fits || offset.checked_add(u64::from(length)).is_none() {
                return Err(Unreadable::Field("an extent is empty or reaches beyond its chunk"));
            }
            Row::Extent { data, offset, chunk, chunk_offset, length }
        }
        8 => Row::Chunk(chunk(key.key_u64()?, value)?),
        9 => Row::ServerChunk { server: key.key_u32()?, chunk: key.key_u64()?, version: value.u64()? },
        16 => Row::DeleteReplica { server: key.key_u32()?, chunk: key.key_u64()?, version: value.u64()? },
        17 => {
            let (chunk, reason) = (key.key_u64()?, value.u8()?);
            if !(1..=2).contains(&reason) {
                return Err(Unreadable::Field("a reason to reconcile is unknown"));
            }
            Row::Reconcile { chunk, reason, since: value.time()? }
        }
        24 => Row::Repair { copies: key.u8()?, chunk: key.key_u64()?, since: value.time()? },
        _ => {
            let (data, from) = (key.key_u64()?, key.key_u64()?);
            Row::Garbage { data, from, to: value.u64()?, inode: value.u64()?, epoch: value.u32()? }
        }
    })
}

fn of_sessions(table: u8, key: &mut Fields<'_>, value: &mut Fields<'_>) -> Result<Row, Unreadable> {
    let first = key.key_u64()?;
    Ok(match table {
        10 => {
            let flags = value.u8()?;
            if flags > 1 {
                return Err(Unreadable::Field("a session has unknown flags"));
            }
            // The secret is nobody's business.
            value.sixteen()?;
            let node = Id(value.sixteen()?);
            let (opened, description) = (value.time()?, value.text()?);
            Row::Session { session: first, ending: flags == 1, node, opened, description }
        }
        11 => {
            let (slot, sequence) = (key.key_u32()?, value.u64()?);
            Row::Slot { session: first, slot, sequence, answer: answer(value.rest()) }
        }
        13 => Row::Lease { inode: first, session: value.u64()?, lease: value.u64()?, marks: value.u32()? },
        14 => Row::LeasedChunk { inode: first, chunk: key.key_u64()? },
        15 => Row::SessionChunk { session: first, chunk: key.key_u64()? },
        _ => Row::SessionLease { session: first, inode: key.key_u64()? },
    })
}

fn are_labels(labels: &[String]) -> bool {
    let is_word = |word: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !word.is_empty() && word.len() <= LABEL_MAX && word.chars().all(fits)
    };
    let pairs: Option<Vec<_>> = labels.iter().map(|label| label.split_once('=')).collect();
    pairs.is_some_and(|pairs| {
        pairs.len() <= LABELS_MAX
            && pairs.iter().all(|(key, value)| is_word(key) && is_word(value))
            && pairs.is_sorted_by(|one, other| one.0 < other.0)
    })
}

fn of_cluster(table: u8, key: &mut Fields<'_>, value: &mut Fields<'_>) -> Result<Row, Unreadable> {
    Ok(match table {
        18 => {
            let (server, node) = (key.key_u32()?, Id(value.sixteen()?));
            let (flags, since, replicas) = (value.u8()?, value.time()?, value.u64()?);
            let (data_address, http_address) = (value.text()?, value.text()?);
            let labels = (0..value.u8()?).map(|_| value.text()).collect::<Result<Vec<_>, _>>()?;
            if flags > 1 {
                return Err(Unreadable::Field("the flags have unknown bits"));
            }
            if !are_labels(&labels) {
                return Err(Unreadable::Field("the labels are not key=value with ascending keys"));
            }
            let draining = (flags == 1).then_some((since, replicas));
            Row::Server { server, node, data_address, http_address, labels, draining }
        }
        19 => Row::ServerNode { node: Id(key.sixteen()?), server: value.u32()? },
        20 => {
            let counter = key.u8()?;
            if !(1..=7).contains(&counter) {
                return Err(Unreadable::Field("there is no such counter"));
            }
            Row::Counter { counter, number: value.u64()? }
        }
        25 => policy(key.key_u32()?, value)?,
        26 => {
            let (server, disk) = (key.key_u32()?, Id(key.sixteen()?));
            Row::DiskDrain { server, disk, since: value.time()?, replicas: value.u64()? }
        }
        29 => {
            let (flags, next) = (value.u8()?, value.u64()?);
            if flags > 1 {
                return Err(Unreadable::Field("the flags have unknown bits"));
            }
            Row::PolicyWalk { again: flags == 1, next, since: value.time()?, changed: value.u64()? }
        }
        27 => {
            let (state, tolerance, limit) = (value.u8()?, value.u16()?, value.u64()?);
            let (begun, ended) = (value.time()?, value.time()?);
            let (planned, moved, replicas, spread) = (value.u64()?, value.u64()?, value.u64()?, value.u32()?);
            if !(1..=4).contains(&state) {
                return Err(Unreadable::Field("there is no such state of a rebalancing"));
            }
            Row::Rebalance { state, tolerance, limit, begun, ended, planned, moved, replicas, spread }
        }
        28 => {
            let (hour, total_bytes, used_bytes) = (key.key_u32()?, value.u64()?, value.u64()?);
            if used_bytes > total_bytes {
                return Err(Unreadable::Field("more is used than there is"));
            }
            Row::Capacity { hour, total_bytes, used_bytes, chunks: value.u64()?, inodes: value.u64()? }
        }
        _ => Row::Cluster {
            cluster: Id(value.sixteen()?),
            default_replicas: value.u8()?,
            feature_level: value.u32()?,
            formatted: value.time()?,
        },
    })
}

fn policy(policy: u32, value: &mut Fields<'_>) -> Result<Row, Unreadable> {
    let (replicas, minimum) = (value.u8()?, value.u8()?);
    let (inodes, chunks, name) = (value.u64()?, value.u64()?, value.text()?);
    let required = (0..value.u8()?).map(|_| value.text()).collect::<Result<Vec<_>, _>>()?;
    if !(1..=REPLICAS_MAX).contains(&usize::from(replicas)) || !(1..=replicas).contains(&minimum) {
        return Err(Unreadable::Field("a policy wants no replicas, more than 8, or a minimum above"));
    }
    let is_named = !name.is_empty()
        && name.len() <= POLICY_NAME_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !is_named || !are_labels(&required) {
        return Err(Unreadable::Field(
            "the name is none, or the labels are not key=value with ascending keys",
        ));
    }
    Ok(Row::Policy { policy, replicas, minimum, inodes, chunks, name, required })
}

fn kind(value: &mut Fields<'_>) -> Result<u8, Unreadable> {
    let kind = value.u8()?;
    if (1..=7).contains(&kind) { Ok(kind) } else { Err(Unreadable::Field("an inode's kind is unknown")) }
}

fn name(bytes: &[u8]) -> Result<Text, Unreadable> {
    let sound = !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && !bytes.contains(&b'/')
        && !bytes.contains(&0)
        && bytes != b"."
        && bytes != b"..";
    if sound { Ok(Text(bytes.to_vec())) } else { Err(Unreadable::Field("a name is none")) }
}

fn inode(number: u64, value: &mut Fields<'_>) -> Result<Inode, Unreadable> {
    let (kind, mode) = (kind(value)?, value.u16()?);
    let (links, uid, gid) = (value.u32()?, value.u32()?, value.u32()?);
    let (size, mapped_bytes) = (value.u64()?, value.u64()?);
    let times = [value.time()?, value.time()?, value.time()?, value.time()?];
    let (change, data_change) = (value.u64()?, value.u64()?);
    let (rdev, lease, xattr_bytes, map_epoch) = (0, 0, 0, 0);
    let mut row = Inode {
        inode: number,
        kind,
        mode,
        links,
        uid,
        gid,
        size,
        mapped_bytes,
        times,
        change,
        data_change,
        rdev,
        directory: None,
        lease,
        xattr_bytes,
        map_epoch,
        pieces: Vec::new(),
        policy: 0,
    };
    let mut before = 0;
    while !value.is_empty() {
        let (tag, length) = (value.u8()?, usize::from(value.u16()?));
        if tag <= before {
            return Err(Unreadable::Field("the tags of an inode do not ascend"));
        }
        before = tag;
        tagged(&mut row, tag, value.bytes(length)?)?;
    }
    if mode > 0o7777 {
        return Err(Unreadable::Field("an inode's mode is none"));
    }
    // Cookies 1 and 2 are `.` and `..`.
    if (kind == DIRECTORY) != row.directory.is_some_and(|(_, cookie)| cookie >= 3) {
        return Err(Unreadable::Field("a directory has no cookies, or something else has"));
    }
    Ok(row)
}

fn tagged(row: &mut Inode, tag: u8, field: &[u8]) -> Result<(), Unreadable> {
    let mut field = Fields::of(field);
    match tag {
        1 => row.rdev = field.u64()?,
        2 => row.directory = Some((field.u64()?, field.u64()?)),
        3 => row.lease = field.u64()?,
        4 => row.xattr_bytes = field.u32()?,
        5 => {
            row.map_epoch = field.u32()?;
            while !field.is_empty() {
                row.pieces.push((field.u64()?, field.u64()?));
            }
            let begins = row.pieces.first().is_some_and(|&(from, _)| from == 0);
            if !begins || row.pieces.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                return Err(Unreadable::Field("the pieces of a map do not begin at 0 or do not ascend"));
            }
        }
        6 => row.policy = field.u32()?,
        _ => return Err(Unreadable::Field("an inode has an unknown tag")),
    }
    field.end()
}

fn chunk(number: u64, value: &mut Fields<'_>) -> Result<Chunk, Unreadable> {
    let (layout, minimum, flags) = (value.u8()?, value.u8()?, value.u8()?);
    if layout != 1 || flags > 1 {
        return Err(Unreadable::Field("a chunk has an unknown layout or unknown flags"));
    }
    let (version, raising) = (value.u64()?, value.u64()?);
    let (references, owner, inode) = (value.u64()?, value.u64()?, value.u64()?);
    let (wanted, policy) = (value.u8()?, value.u32()?);
    if !(1..=REPLICAS_MAX).contains(&usize::from(wanted)) {
        return Err(Unreadable::Field("a chunk is to have no replicas, or more than 8"));
    }
    let mut servers = Vec::new();
    while !value.is_empty() {
        servers.push(value.u32()?);
    }
    if servers.len() > REPLICAS_MAX {
        return Err(Unreadable::Field("a chunk has more than 8 replicas"));
    }
    let reconciling = flags == 1;
    Ok(Chunk {
        chunk: number,
        minimum,
        wanted,
        policy,
        reconciling,
        version,
        raising,
        references,
        owner,
        inode,
        servers,
    })
}

/// The answer in a slot, by the drawing in `session/stored_answer.rs`: its name, or what is wrong.
fn answer(bytes: &[u8]) -> Result<&'static str, &'static str> {
    const ANSWER_MAX: usize = 512;
    const ATTRIBUTES: usize = 8 + 1 + 2 + 3 * 4 + 3 * 8 + 4 * 12 + 2 * 8 + 4;
    let Some((&kind, rest)) = bytes.split_first() else { return Err("it is empty") };
    if bytes.len() > ANSWER_MAX {
        return Err("it is longer than 512 bytes");
    }
    let (name, before) = match kind {
        1 if rest.is_empty() => return Ok("done"),
        5 if rest.len() % 8 == 0 => return Ok("chunks"),
        2 => ("attributes", 0),
        3 => ("entry", 0),
        4 => ("created", 9),
        6 => ("leased", 8),
        _ => return Err("its kind is unknown, or it has the wrong length"),
    };
    if rest.len() != before + ATTRIBUTES {
        return Err("it has the wrong length");
    }
    let attributes = &rest[before..];
    let times = attributes[47..95].chunks_exact(12);
    let whole = times.map(|time| u32::from_le_bytes([time[8], time[9], time[10], time[11]]));
    let sound = (1..=7).contains(&attributes[8])
        && (kind != 4 || rest[0] <= 1)
        && whole.into_iter().all(|nanos| nanos < 1_000_000_000);
    if sound { Ok(name) } else { Err("a field holds what it cannot hold") }
}
