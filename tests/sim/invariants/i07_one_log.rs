//! I7: what is committed is the same on every master: same index, same term, same bytes.

use crate::remains::Remains;

/// What is wrong with the logs that the masters leave.
pub(crate) fn check(masters: &[Remains]) -> Vec<String> {
    let mut broken = Vec::new();
    for (at, one) in masters.iter().enumerate() {
        for other in &masters[at + 1..] {
            let both = one.commit.min(other.commit);
            let differs = one
                .entries
                .range(..=both)
                .find(|(index, entry)| other.entries.get(*index).is_some_and(|theirs| theirs != *entry));
            if let Some((index, (term, _))) = differs {
                let theirs = other.entries[index].0;
                broken.push(format!(
                    "I7: entry {index} is of term {term} on master {} and of term {theirs} on master {}",
                    one.id, other.id
                ));
            }
        }
    }
    broken
}
