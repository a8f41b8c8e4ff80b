//! I1: what was acknowledged is there, whatever crashed, and is what everybody reads.

use crate::oracle::{Kept, Names, Own};
use cairn_tests::oracle::difference;
use std::collections::BTreeSet;

/// What is wrong with what was found in a client's own directory. Where an operation never answered, its outcome may be there as
/// well as what was there before.
pub(crate) fn directory(own: &Own, found: &Names) -> Option<String> {
    let all: BTreeSet<&String> = own.before.keys().chain(own.after.keys()).chain(found.keys()).collect();
    all.into_iter().find_map(|name| {
        let allowed = [own.before.get(name), own.after.get(name)];
        let fits = match found.get(name) {
            None => allowed.contains(&None),
            Some(Kept::Dir) => allowed.contains(&Some(&Kept::Dir)),
            Some(Kept::File(contents)) => file_fits(contents, allowed, own.has_holes),
        };
        (!fits).then(|| {
            format!(
                "I1: {}/{name}: found {}, acknowledged {}, under way {}",
                own.path,
                show(found.get(name)),
                show(allowed[0]),
                show(allowed[1])
            )
        })
    })
}

/// What is wrong with a read of a file whose contents are known.
pub(crate) fn read(client: u64, path: &str, read: &[u8], acknowledged: &[u8]) -> Option<String> {
    (read != acknowledged).then(|| {
        format!(
            "I1: client {client} reads of {path} what was not acknowledged: {}",
            difference(read, acknowledged)
        )
    })
}

fn show(kept: Option<&Kept>) -> String {
    match kept {
        None => "nothing".to_owned(),
        Some(Kept::Dir) => "a directory".to_owned(),
        Some(Kept::File(bytes)) => format!("{} bytes, crc {:08x}", bytes.len(), crc32fast::hash(bytes)),
    }
}

/// Exactly what was acknowledged; or, where something is under way, every byte as before or as after, or zero where it is known to be
/// lost.
fn file_fits(contents: &[u8], allowed: [Option<&Kept>; 2], has_holes: bool) -> bool {
    let files: Vec<&[u8]> = allowed
        .iter()
        .filter_map(|kept| match kept {
            Some(Kept::File(bytes)) => Some(&bytes[..]),
            _ => None,
        })
        .collect();
    if files.contains(&contents) {
        return true;
    }
    if allowed[0] == allowed[1] || files.is_empty() {
        return false;
    }
    let longest = files.iter().map(|file| file.len()).max().unwrap_or(0);
    contents.len() <= longest
        && contents.iter().enumerate().all(|(at, byte)| {
            (has_holes && *byte == 0) || files.iter().any(|file| file.get(at) == Some(byte))
        })
}
