//! What the model lets pass, and what it must refuse.

use super::*;
use crate::cluster::test_dir;
use crate::corpus::bytes;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

/// A directory and the tree that it must be, made by the same acts.
fn made() -> (TempDir, Tree) {
    let (top, mut tree) = (test_dir(), Tree::default());
    let path = |name: &str| top.path().join(name);
    for (name, seed) in [("a", 1), ("b", 2), ("gone", 3), ("replaced", 4)] {
        fs::write(path(name), bytes(seed, 20_000)).unwrap();
        tree.create(name);
        let contents = tree.contents(tree.file(name).unwrap()).unwrap();
        contents.write(0, &bytes(seed, 20_000));
        contents.sync();
    }
    fs::create_dir(path("d")).unwrap();
    tree.make_directory("d");
    fs::create_dir(path("empty")).unwrap();
    tree.make_directory("empty");
    fs::hard_link(path("a"), path("d/a2")).unwrap();
    tree.link("a", "d/a2");
    fs::remove_file(path("gone")).unwrap();
    tree.remove("gone");
    fs::rename(path("b"), path("replaced")).unwrap();
    tree.rename("b", "replaced");
    fs::rename(path("a"), path("d/a2")).unwrap();
    tree.rename("a", "d/a2");
    fs::rename(path("d"), path("e")).unwrap();
    tree.rename("d", "e");
    (top, tree)
}

fn judged(top: &TempDir, tree: &Tree) -> Result<(), String> {
    tree.check(&Found::below(top.path()).unwrap())
}

#[test]
fn what_was_acknowledged_passes_and_can_be_gone_on_from() {
    let (top, tree) = made();
    judged(&top, &tree).unwrap();
    let settled = Found::below(top.path()).unwrap().settle();
    judged(&top, &settled).unwrap();
    assert!(settled.file("e/a2").is_some() && settled.is_empty("a") && !settled.is_empty("e"));
}

fn outside(top: &Path, name: &str) -> std::path::PathBuf {
    top.with_extension(name.replace('/', "-"))
}

fn link_outside(top: &Path, name: &str) {
    fs::hard_link(top.join(name), outside(top, name)).unwrap();
}

#[test]
fn each_kind_of_damage_is_found() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 11] = [
        ("replaced: the file is missing", |top| fs::remove_file(top.join("replaced")).unwrap()),
        ("the directory is missing", |top| fs::remove_dir(top.join("empty")).unwrap()),
        ("has 1 links, not 2", |top| {
            fs::remove_file(top.join("a")).unwrap();
            fs::write(top.join("a"), bytes(1, 20_000)).unwrap();
        }),
        ("gone: nobody made it", |top| fs::write(top.join("gone"), "").unwrap()),
        ("x: nobody made it", |top| fs::create_dir(top.join("x")).unwrap()),
        ("block 3", |top| {
            let file = fs::OpenOptions::new().write(true).open(top.join("replaced")).unwrap();
            file.write_all_at(&[0], 3 * 4096 + 77).unwrap();
        }),
        ("block 0", |top| fs::write(top.join("replaced"), bytes(4, 20_000)).unwrap()),
        ("19999 bytes", |top| {
            fs::OpenOptions::new().write(true).open(top.join("e/a2")).unwrap().set_len(19_999).unwrap();
        }),
        ("20001 bytes", |top| {
            fs::OpenOptions::new().write(true).open(top.join("e/a2")).unwrap().set_len(20_001).unwrap();
        }),
        ("no longer the same", |top| {
            fs::remove_file(top.join("a")).unwrap();
            fs::write(top.join("a"), bytes(1, 20_000)).unwrap();
            ["a", "e/a2"].into_iter().for_each(|name| link_outside(top, name));
        }),
        ("has 3 links, not 2", |top| link_outside(top, "a")),
    ];
    for (said, damage) in damages {
        let (top, tree) = made();
        damage(top.path());
        let verdict = judged(&top, &tree).unwrap_err();
        assert!(verdict.contains(said), "{said}: {verdict}");
        ["a", "e/a2"].into_iter().for_each(|name| drop(fs::remove_file(outside(top.path(), name))));
    }
}

#[test]
fn two_files_that_became_one_are_found() {
    let (top, mut tree) = (test_dir(), Tree::default());
    for name in ["a", "b"] {
        tree.create(name);
    }
    fs::write(top.path().join("a"), "").unwrap();
    fs::hard_link(top.path().join("a"), top.path().join("b")).unwrap();
    assert!(judged(&top, &tree).is_err());
}

#[test]
fn an_overwrite_is_there_in_whole_blocks_and_wholly_once_it_was_synced() {
    let (old, new) = (bytes(1, 20_000), bytes(2, 9_000));
    let mut contents = Contents { synced: old.clone(), latest: old.clone(), ..Contents::default() };
    contents.write(1000, &new);
    let mut all = old.clone();
    all[1000..10_000].copy_from_slice(&new);
    let mut some = old.clone();
    some[4096..8192].copy_from_slice(&all[4096..8192]);
    let mut torn = old.clone();
    torn[4096..6000].copy_from_slice(&all[4096..6000]);
    for allowed in [&old, &some, &all] {
        contents.check(allowed).unwrap();
    }
    assert!(contents.check(&torn).unwrap_err().contains("block 1"));

    contents.write(4096, &bytes(3, 4096));
    contents.check(&all).unwrap();
    contents.sync();
    for lost in [&old, &some, &all, &torn] {
        assert!(contents.check(lost).is_err());
    }
    contents.check(&contents.latest.clone()).unwrap();
}

#[test]
fn of_writes_to_one_block_any_may_be_missing_and_none_in_part() {
    let old = bytes(1, 4096);
    let mut contents = Contents { synced: old.clone(), latest: old.clone(), ..Contents::default() };
    let writes = [(100..600, bytes(2, 500)), (400..900, bytes(3, 500)), (2000..2100, bytes(4, 100))];
    for (at, write) in &writes {
        contents.write(at.start, write);
    }
    for there in 0..8 {
        let mut found = old.clone();
        let chosen = writes.iter().enumerate().filter(|(number, _)| there & (1 << number) != 0);
        chosen.for_each(|(_, (at, write))| found[at.clone()].copy_from_slice(write));
        contents.check(&found).unwrap();
        found[450] ^= 1;
        assert!(contents.check(&found).unwrap_err().contains("block 0"), "{there}");
    }
    let mut torn = old;
    torn[2000..2050].copy_from_slice(&writes[2].1[..50]);
    let verdict = contents.check(&torn).unwrap_err();
    assert!(
        verdict.contains("of writes to [100..600, 400..900, 2000..2100]: 0..2000 of {0}, 2000..2050 of {3}, 2050..4096 of {0"),
        "{verdict}"
    );
}

#[test]
fn an_append_shows_only_bytes_that_were_written() {
    let (old, tail) = (bytes(1, 5000), bytes(2, 9000));
    let mut contents = Contents { synced: old.clone(), latest: old.clone(), ..Contents::default() };
    contents.write(5000, &tail);
    let all = [&old[..], &tail].concat();
    for length in [5000, 5001, 8192, 13_999, 14_000] {
        contents.check(&all[..length]).unwrap();
    }
    assert!(contents.check(&all[..4999]).is_err());
    assert!(contents.check(&[&all[..], b"x"].concat()).is_err());
    let hole = [&old[..], &vec![0; 9000]].concat();
    assert!(contents.check(&hole).is_err());
    contents.sync();
    assert!(contents.check(&all[..13_999]).is_err());
}

#[test]
fn lost_writes_leave_holes_only_where_they_were() {
    let old = vec![7; 2 * 4096];
    let mut contents = Contents { synced: old.clone(), latest: old.clone(), ..Contents::default() };
    contents.write(2 * 4096, &[9; 100]);
    let hole = [&old[..], &[0; 100]].concat();
    assert!(contents.check(&hole).is_err(), "no write was lost");
    contents.doubt();
    contents.check(&hole).unwrap();
    assert!(contents.check(&[&[0; 4096], &old[4096..]].concat()).is_err(), "what was synced is there");
    assert!(contents.check(&[&old[..], &[8; 100]].concat()).is_err(), "nobody wrote that");
}
