//! What a restored state begins its new life with: numbers that nothing of its former life has used.
//!
//! After the moment that is restored the cluster may have given out inodes, chunks and sessions whose entries are lost; their
//! replicas still stand on chunk servers and their numbers in the memory of clients. Given out again they would be mixed up, so
//! the counters jump over them.

use crate::limits::RESTORE_NUMBERS_SKIPPED;
use crate::namespace::machine::{Rows, Stop};
use crate::namespace::rows::cluster::{CounterKey, NumberRow};
use crate::namespace::rows::{Key, Value, damaged};
use bytes::Bytes;

/// Counters that jump. Those of what is gone jump along with their own, so that what is in use stays what it is.
const JUMPING: [CounterKey; 5] = [
    CounterKey::NextInode,
    CounterKey::InodesGone,
    CounterKey::NextChunk,
    CounterKey::ChunksGone,
    CounterKey::NextSession,
];

/// Rows to write over those of `rows`. A state that was never formatted has none.
///
/// # Errors
/// As the rows'.
pub fn skip_numbers(rows: &dyn Rows) -> Result<Vec<(Bytes, Option<Bytes>)>, Stop> {
    let mut written = Vec::new();
    for counter in JUMPING {
        let key = counter.encode();
        let Some(value) = rows.get(&key)? else { continue };
        let NumberRow(number) = NumberRow::decode(&value).map_err(|_| damaged(CounterKey::TABLE, &key))?;
        let jumped = NumberRow(number + RESTORE_NUMBERS_SKIPPED);
        written.push((key, Some(jumped.encode())));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InodeId;
    use crate::namespace::memory::MemoryRows;
    use crate::namespace::work::totals;

    #[test]
    fn numbers_jump_and_what_is_in_use_stays_what_it_is() {
        let mut rows = MemoryRows::default();
        assert!(skip_numbers(&rows).unwrap().is_empty());
        let counters =
            [(CounterKey::NextInode, 90), (CounterKey::InodesGone, 9), (CounterKey::NextServer, 4)];
        counters.iter().for_each(|&(counter, number)| rows.put(counter.encode(), NumberRow(number).encode()));
        let before = totals(&rows).unwrap();
        let jumped = skip_numbers(&rows).unwrap();
        rows.apply(&jumped);
        assert_eq!(totals(&rows).unwrap(), before);
        let next = rows.get(&CounterKey::NextInode.encode()).unwrap().unwrap();
        assert_eq!(NumberRow::decode(&next), Ok(NumberRow(90 + RESTORE_NUMBERS_SKIPPED)));
        assert!(InodeId(NumberRow::decode(&next).unwrap().0).get() < 1 << 48);
        let servers = rows.get(&CounterKey::NextServer.encode()).unwrap().unwrap();
        assert_eq!(NumberRow::decode(&servers), Ok(NumberRow(4)), "servers keep their numbers");
    }
}
