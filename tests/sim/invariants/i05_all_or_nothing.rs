//! I5: an operation on names that never answered was done as a whole or not at all: a rename leaves one name.

use crate::oracle::{Kept, Names, Own};

/// What is wrong with the names found in a client's own directory.
pub(crate) fn directory(own: &Own, found: &Names) -> Option<String> {
    let kinds = |names: &Names| {
        names.iter().map(|(name, kept)| (name.clone(), matches!(kept, Kept::Dir))).collect::<Vec<_>>()
    };
    let found = kinds(found);
    let allowed = [kinds(&own.before), kinds(&own.after)];
    (!allowed.contains(&found)).then(|| {
        format!(
            "I5: {}: found {found:?}, acknowledged {:?}, under way {:?}",
            own.path, allowed[0], allowed[1]
        )
    })
}
