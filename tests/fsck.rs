//! `admin fsck` and `admin journal dump` on clusters that have worked: what is sound is clean, what is damaged is found.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use cairn_env::kv::{Batch, Kv, KvRead, Wait};
use cairn_master::kv::RocksKv;
use cairn_tests::cluster::cairn_binary;
use cairn_tests::corpus::{bytes, make_tree};
use cairn_tests::{Cluster, ClusterOptions};
use rustix::fs::{XattrFlags, setxattr};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn offline(arguments: &[&str]) -> Output {
    Command::new(cairn_binary()).arg("--json").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The verdict on a stopped master's directory, and whether it is clean.
fn examined(data: &Path) -> (Value, bool) {
    let output = offline(&["admin", "fsck", data.to_str().unwrap()]);
    let verdict = serde_json::from_slice(&output.stdout);
    (verdict.unwrap_or_else(|_| panic!("{}", text(&output.stderr))), output.status.success())
}

fn assert_clean(data: &Path) -> Value {
    let (verdict, clean) = examined(data);
    assert!(clean && verdict["total"] == 0, "{verdict:#}");
    verdict
}

/// Everything in a journal, and whether it is whole.
fn dumped(data: &Path, more: &[&str]) -> (Vec<Value>, bool) {
    let output = offline(&[&["admin", "journal", "dump", data.to_str().unwrap()], more].concat());
    let events = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (events, output.status.success())
}

fn of_kind<'a>(events: &'a [Value], event: &str) -> Vec<&'a Value> {
    events.iter().filter(|found| found["event"] == event).collect()
}

fn kinds(events: &[Value]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in of_kind(events, "entry") {
        *kinds.entry(entry["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    kinds
}

/// Rules that do not hold.
fn rules(verdict: &Value) -> Vec<String> {
    let findings = verdict["findings"].as_array().unwrap();
    let mut rules: Vec<String> =
        findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect();
    rules.dedup();
    rules
}

/// Every kind of change there is; returns a file that is open and has no name.
fn work(mount: &Path) -> File {
    make_tree(&mount.join("tree"), 5, 150);
    let at = |name: &str| mount.join(name);
    fs::create_dir_all(at("a/b/c")).unwrap();
    fs::write(at("a/file"), bytes(1, 3_000_000)).unwrap();
    fs::hard_link(at("a/file"), at("a/b/again")).unwrap();
    symlink("../file", at("a/b/link")).unwrap();
    setxattr(at("a/file"), "user.color", b"green", XattrFlags::empty()).unwrap();
    setxattr(at("a/b"), "user.color", b"red", XattrFlags::empty()).unwrap();
    fs::rename(at("a/b/again"), at("moved")).unwrap();
    fs::rename(at("a/b/c"), at("c")).unwrap();
    fs::write(at("replaced"), bytes(2, 70_000)).unwrap();
    fs::write(at("replacing"), bytes(3, 50_000)).unwrap();
    fs::rename(at("replacing"), at("replaced")).unwrap();
    let file = OpenOptions::new().write(true).open(at("a/file")).unwrap();
    file.set_len(1_000_000).unwrap();
    file.write_all_at(&bytes(4, 9000), 5_000_000).unwrap();
    file.sync_all().unwrap();
    fs::remove_dir(at("c")).unwrap();
    fs::write(at("gone"), bytes(5, 200_000)).unwrap();
    let open = File::open(at("gone")).unwrap();
    fs::remove_file(at("gone")).unwrap();
    open
}

fn data_dir(cluster: &Cluster, master: &str) -> PathBuf {
    cluster.process(master).data_dirs[0].clone()
}

/// Names, sizes and modification times of all files in a directory.
fn files(data: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let (mut found, mut stack) = (Vec::new(), vec![data.to_owned()]);
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                stack.push(entry.path());
            } else {
                found.push((entry.path(), metadata.len(), metadata.modified().unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_cluster_that_has_worked_is_clean_and_its_journal_names_what_was_done() {
    let cluster = Cluster::up(ClusterOptions { replicas: 2, ..ClusterOptions::default() });
    let open = work(&cluster.mount());
    let verdict = cluster.json(&["admin", "fsck"]);
    assert_eq!(verdict["total"], 0, "{verdict:#}");
    assert!(verdict["tables"]["DENTRY"].as_u64().unwrap() > 150, "{verdict:#}");
    assert!(verdict["tables"]["ORPHAN"].as_u64().unwrap() >= 1, "{verdict:#}");
    assert!(cluster.cairn(&["admin", "fsck"]).ends_with("clean\n"));
    let data = data_dir(&cluster, "master-1");
    for command in [&["fsck"][..], &["journal", "dump"]] {
        let refused = offline(&[&["admin"], command, &[data.to_str().unwrap()]].concat());
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(said.contains(data.to_str().unwrap()) && said.contains("stop that master"), "{said}");
    }
    // Nothing was flushed: all of the state comes from the journal.
    cluster.kill("master-1");
    let before = files(&data);
    let killed = assert_clean(&data);
    assert!(killed["of"].as_str().unwrap().contains("flushed to entry 0,"), "{killed:#}");
    assert!(killed["tables"]["DENTRY"].as_u64().unwrap() > 150, "{killed:#}");
    let (events, whole) = dumped(&data, &[]);
    assert!(whole);
    let kinds = kinds(&events);
    for kind in ["Empty", "Format", "RegisterServer", "OpenSession", "Create", "Mkdir", "Link", "Symlink"] {
        assert!(kinds.contains_key(kind), "{kind}: {kinds:?}");
    }
    for kind in ["Rename", "Unlink", "Rmdir", "SetXattr", "SetAttr", "AllocateChunks", "Commit"] {
        assert!(kinds.contains_key(kind), "{kind}: {kinds:?}");
    }
    assert_eq!(files(&data), before, "looking changes nothing");
    drop(open);
    cluster.start("master-1");
    cluster.stop("mount");
    cluster.stop("master-1");
    assert_clean(&data);
    let (events, whole) = dumped(&data, &["--from", "5", "--to", "6", "--rows"]);
    assert!(whole);
    let entries = of_kind(&events, "entry");
    assert_eq!(entries.iter().map(|entry| entry["index"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6]);
    let row = &entries[0]["rows_written"][0];
    assert!(row["table"].is_string() && row["row"].is_string(), "{row}");
}

/// Removes one row of a table from a state at rest; returns its key.
fn remove_row(data: &Path, table: u8) -> Bytes {
    let kv = RocksKv::open(&data.join("state"), 8 << 20).unwrap();
    let (from, to) = ([table], [table + 1]);
    let (key, _) = kv.scan(&from, &to, 1, Wait::ForDisk).unwrap().remove(0);
    kv.write(&Batch { writes: vec![(key.clone(), None)] }).unwrap();
    kv.flush().unwrap();
    key
}

const LISTING: u8 = 3;

#[test]
fn a_lost_row_is_found_offline_and_by_the_leader() {
    let cluster = Cluster::up(ClusterOptions { replicas: 2, ..ClusterOptions::default() });
    drop(work(&cluster.mount()));
    cluster.stop("mount");
    cluster.stop("master-1");
    let data = data_dir(&cluster, "master-1");
    assert_clean(&data);
    remove_row(&data, LISTING);
    let (verdict, clean) = examined(&data);
    assert!(!clean);
    assert_eq!(rules(&verdict), ["N1"], "{verdict:#}");
    let finding = &verdict["findings"][0];
    assert!(finding["wrong"].as_str().unwrap().contains("not listed"), "{finding}");
    cluster.start("master-1");
    let output = cluster.try_cairn(&["admin", "fsck"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.contains("RULE") && said.contains("N1 (I16): ") && said.contains("admin masters replace"),
        "{said}"
    );
    assert!(text(&output.stderr).contains("not sound: 1 finding"), "{}", text(&output.stderr));
}

/// The newest segment's file, and where its batches end.
fn end_of_journal(data: &Path) -> (PathBuf, u64) {
    let (events, _) = dumped(data, &[]);
    let file = of_kind(&events, "segment").last().unwrap()["file"].as_str().unwrap().into();
    let end = of_kind(&events, "end").last().unwrap()["offset"].as_u64().unwrap();
    (file, end)
}

fn flip(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

#[test]
fn a_torn_tail_is_told_from_corruption() {
    let cluster = Cluster::up(ClusterOptions { replicas: 2, ..ClusterOptions::default() });
    drop(work(&cluster.mount()));
    cluster.stop("mount");
    cluster.kill("master-1");
    let data = data_dir(&cluster, "master-1");
    let (segment, end) = end_of_journal(&data);
    flip(&segment, end + 100);
    let (events, whole) = dumped(&data, &[]);
    assert!(whole, "nobody was answered for what stands behind the end");
    assert_eq!(of_kind(&events, "end").last().unwrap()["ending"], "torn tail");
    assert_clean(&data);
    // The first batch is below what all others state to be durable.
    flip(&segment, 512 + 80);
    let (events, whole) = dumped(&data, &["--from", "1000000"]);
    assert!(!whole);
    let damage = of_kind(&events, "damage");
    assert_eq!((damage.len(), damage[0]["offset"].as_u64()), (1, Some(512)), "{events:#?}");
    let segment_number = u64::from_str_radix(segment.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
    assert_eq!(damage[0]["segment"].as_u64(), Some(segment_number));
    let plain = Command::new(cairn_binary()).args(["admin", "journal", "dump"]).arg(&data).output().unwrap();
    assert_eq!(plain.status.code(), Some(1));
    assert!(text(&plain.stdout).contains("corruption at byte 512"), "{}", text(&plain.stdout));
    let refused = offline(&["admin", "fsck", data.to_str().unwrap()]);
    assert!(text(&refused.stderr).contains("admin journal dump"), "{}", text(&refused.stderr));
}

#[test]
fn members_of_a_group_are_clean_and_their_journals_say_how_it_changed() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, replicas: 2, ..ClusterOptions::default() });
    drop(work(&cluster.mount()));
    assert_eq!(cluster.json(&["admin", "fsck"])["total"], 0);
    let leader = cluster.leader();
    let names = ["master-1", "master-2", "master-3"];
    let mut others = names.into_iter().filter(|name| *name != leader);
    let (kept, removed) = (others.next().unwrap(), others.next().unwrap());
    cluster.cairn(&["admin", "masters", "remove", removed.rsplit('-').next().unwrap()]);
    let verdict = cluster.json(&["admin", "fsck"]);
    assert_eq!(verdict["total"], 0, "{verdict:#}");
    cluster.stop("mount");
    for name in [kept, &leader] {
        cluster.kill(name);
        let data = data_dir(&cluster, name);
        assert_clean(&data);
        let (events, whole) = dumped(&data, &[]);
        assert!(whole);
        let entries = of_kind(&events, "entry");
        let change = entries.iter().find(|entry| entry["kind"] == "ConfChange").unwrap();
        assert!(change["change"].as_str().unwrap().ends_with("is out"), "{change}");
        let members = change["members"].as_str().unwrap();
        assert_eq!(members.split(", ").count(), 2, "{members}");
    }
}
