//! Rules of the house that no lint knows: how long a file may be, and what it may not be called. Clippy holds the others
//! (functions of at most 70 lines, no `unwrap` outside tests).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file.
const LINES_MAX: usize = 700;
/// A name that says nothing attracts everything.
const SAYS_NOTHING: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "misc", "general"];

fn sources() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut stack = vec![top.to_owned()];
    let mut found = Vec::new();
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_symlink() || name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                // What cargo makes carries this mark, wherever it stands; clusters and mounts do not hold sources of ours.
                let built = path.join("CACHEDIR.TAG").exists();
                let cluster = path.join("cluster.json").exists();
                if !built && !cluster && name != "target" {
                    stack.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn files_are_short_and_named_for_what_they_do() {
    let sources = sources();
    assert!(sources.len() > 200, "only {} sources found: the search is broken", sources.len());
    let mut wrong = Vec::new();
    for path in &sources {
        let lines = fs::read_to_string(path).unwrap().lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines, more than {LINES_MAX}", path.display()));
        }
        let parent = path.parent().unwrap().file_name().unwrap();
        for name in [path.file_stem().unwrap(), parent] {
            if SAYS_NOTHING.iter().any(|word| name == *word) {
                wrong.push(format!("{}: {} says nothing", path.display(), name.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sources_say_what_they_are_for() {
    let silent: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().trim_start().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "without a `//!` head: {silent:#?}");
}
