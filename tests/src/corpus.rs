//! Trees of files made from a seed, and their fingerprints.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::fs::{XattrFlags, lgetxattr, setxattr};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// Bytes from a seed.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Makes `files` files of mixed sizes in nested directories, with links, owners, extended attributes and odd names.
pub fn make_tree(top: &Path, seed: u64, files: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut directory = top.to_owned();
    fs::create_dir_all(top).expect("the top can be made");
    for number in 0..files {
        if number % 50 == 0 {
            directory = top.join(format!("d{}", number / 500)).join(format!("sub {}", number / 50));
            fs::create_dir_all(&directory).expect("a directory can be made");
        }
        let length = match random.random_range(0..100) {
            0..5 => 0,
            5..80 => random.random_range(1..8192),
            80..98 => random.random_range(8192..200_000),
            _ => random.random_range(200_000..3_000_000),
        };
        let path = directory.join(format!("f{number:05}é"));
        fs::write(&path, bytes(seed ^ number as u64, length)).expect("a file can be written");
        let mode = [0o644, 0o600, 0o755, 0o444][number % 4];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod works");
        if number % 13 == 0 && rustix::process::geteuid().is_root() {
            chown(&path, Some(1000 + number as u32), Some(100)).expect("root may give files away");
        }
        if number % 89 == 0 {
            let value = format!("value {number}");
            setxattr(&path, "user.cairn.number", value.as_bytes(), XattrFlags::empty())
                .expect("the file system of the tests keeps user attributes");
        }
        if number % 97 == 0 {
            symlink(format!("f{number:05}é"), directory.join(format!("l{number}"))).expect("symlink works");
            fs::hard_link(&path, directory.join(format!("h{number}"))).expect("link works");
        }
    }
}

/// What must be equal of each path below `top`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    links: u64,
    length: u64,
    contents: u32,
    link: Option<PathBuf>,
    attribute: Option<Vec<u8>>,
}

/// Fingerprints of everything below `top`, by relative path. Directory sizes and link counts are left out.
pub fn fingerprints(top: &Path) -> BTreeMap<PathBuf, Fingerprint> {
    let mut all = BTreeMap::new();
    let mut stack = vec![top.to_owned()];
    while let Some(directory) = stack.pop() {
        for entry in
            fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        {
            let path = entry.expect("an entry can be read").path();
            let metadata =
                fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let (is_dir, is_file) = (metadata.is_dir(), metadata.is_file());
            let contents = if is_file {
                crc32(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            } else {
                0
            };
            let fingerprint = Fingerprint {
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                links: if is_dir { 0 } else { metadata.nlink() },
                length: if is_dir { 0 } else { metadata.len() },
                contents,
                link: fs::read_link(&path).ok(),
                attribute: attribute(&path),
            };
            all.insert(path.strip_prefix(top).expect("below the top").to_owned(), fingerprint);
            if is_dir {
                stack.push(path);
            }
        }
    }
    all
}

/// The extended attribute that `make_tree` sets on some files.
fn attribute(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; 100];
    let length = lgetxattr(path, "user.cairn.number", &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

/// CRC-32 of some bytes.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
