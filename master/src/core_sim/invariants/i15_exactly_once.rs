//! I10, I15: a good answer is that of an entry of the log, each time that it is given: the one that the entry itself keeps.

use crate::core_sim::canon::{Asked, Canon};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::rows::session::{SlotKey, SlotRow};
use cairn_core::namespace::rows::{Key, Value};
use cairn_core::session::stored_answer::{StoredAnswer, decode};

/// Returns the entry that decided it.
pub(super) fn check(seed: u64, of: Asked, answer: &Answer, canon: &Canon) -> u64 {
    let (session, slot, sequence) = of;
    let Some(&index) = canon.decided.get(&of) else {
        panic!("seed {seed}: I10: {session} {slot} {sequence} is acknowledged and in no committed entry")
    };
    let key = SlotKey { session, slot }.encode();
    let stored = canon.value_at(&key, index).and_then(|value| SlotRow::decode(&value).ok());
    let Some(stored) = stored.filter(|row| row.sequence == sequence) else {
        panic!("seed {seed}: I15: entry {index} keeps no answer for {session} {slot} {sequence}")
    };
    match decode(&stored.answer) {
        Ok(StoredAnswer::Whole(first)) => {
            assert_eq!(
                *first, *answer,
                "seed {seed}: I15: {session} {slot} {sequence} is answered otherwise"
            );
        }
        Ok(StoredAnswer::Chunks(chunks)) => {
            let Answer::Chunks(located) = answer else {
                panic!("seed {seed}: I15: chunks answered as {answer:?}")
            };
            let located: Vec<_> = located.iter().map(|location| location.chunk).collect();
            assert_eq!(
                located, chunks,
                "seed {seed}: I15: {session} {slot} {sequence} is answered otherwise"
            );
        }
        Err(_) => panic!("seed {seed}: I15: the answer in entry {index} is damaged"),
    }
    index
}
