//! Two mounts of one cluster never disagree about what was acknowledged: what both cache is taken back first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Looks at `path` often enough that everything about it is cached.
fn warm(path: &Path) {
    for _ in 0..3 {
        let _ = fs::symlink_metadata(path);
        let _ = fs::read(path);
    }
}

fn pair() -> (Cluster, PathBuf, PathBuf) {
    let mut cluster = Cluster::up(ClusterOptions::default());
    let (a, b) = (cluster.mount(), cluster.second_mount());
    (cluster, a, b)
}

#[test]
fn each_change_is_seen_at_once_through_a_warm_cache() {
    let (_cluster, a, b) = pair();
    for round in 0..40 {
        let (here, there) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let d = format!("dir{}", round % 4);
        fs::create_dir_all(here.join(&d)).unwrap();
        let f = format!("{d}/f{round}");
        warm(&there.join(&f));
        assert!(is_absent(&there.join(&f)), "and that it is absent is cached");

        fs::write(here.join(&f), b"one").unwrap();
        assert_eq!(fs::read(there.join(&f)).unwrap(), b"one", "round {round}: created");
        warm(&there.join(&f));
        fs::write(here.join(&f), b"longer").unwrap();
        assert_eq!(fs::metadata(there.join(&f)).unwrap().len(), 6, "round {round}: rewritten");
        assert_eq!(fs::read(there.join(&f)).unwrap(), b"longer");
        warm(&there.join(&f));
        fs::set_permissions(here.join(&f), Permissions::from_mode(0o600 + round)).unwrap();
        assert_eq!(fs::metadata(there.join(&f)).unwrap().mode() & 0o777, 0o600 + round, "chmod");
        let (open, link) = (File::open(there.join(&f)).unwrap(), format!("{d}/l{round}"));
        warm(&there.join(&link));
        fs::hard_link(here.join(&f), here.join(&link)).unwrap();
        assert_eq!(open.metadata().unwrap().nlink(), 2, "seen by an open file as well");
        assert_eq!(fs::metadata(there.join(&link)).unwrap().nlink(), 2);
        fs::remove_file(here.join(&f)).unwrap();
        assert!(is_absent(&there.join(&f)), "round {round}: unlinked");
        assert_eq!(open.metadata().unwrap().nlink(), 1);
        let moved = format!("{d}/m{round}");
        warm(&there.join(&moved));
        fs::rename(here.join(&link), here.join(&moved)).unwrap();
        assert!(is_absent(&there.join(&link)) && there.join(&moved).exists(), "round {round}: renamed");
        let names = fs::read_dir(there.join(&d)).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().any(|name| *name.to_string_lossy() == format!("m{round}")));
    }
}

#[test]
fn directories_that_move_take_their_cached_paths_along() {
    let (_cluster, a, b) = pair();
    for round in 0..20 {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        fs::create_dir_all(a.join(&old).join("deep/deeper")).unwrap();
        fs::write(a.join(&old).join("deep/deeper/f"), b"x").unwrap();
        warm(&b.join(&old).join("deep/deeper/f"));
        warm(&b.join(&new));
        fs::rename(a.join(&old), a.join(&new)).unwrap();
        assert!(is_absent(&b.join(&old).join("deep/deeper/f")));
        assert_eq!(fs::read(b.join(&new).join("deep/deeper/f")).unwrap(), b"x");
        fs::remove_dir_all(b.join(&new)).unwrap();
        assert!(is_absent(&a.join(&new)));
        fs::create_dir(a.join(&new)).unwrap();
        assert!(is_absent(&b.join(&new).join("deep")), "the new directory is another one");
    }
}

#[test]
fn two_mounts_at_work_in_one_directory_wait_for_nobody_for_long() {
    let (_cluster, a, b) = pair();
    fs::create_dir(a.join("shared")).unwrap();
    let stop = AtomicBool::new(false);
    let work = |mount: &Path, who: &str| {
        let mut longest = Duration::ZERO;
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let (dir, file) = (format!("shared/d-{who}"), format!("shared/f-{who}"));
            fs::create_dir(mount.join(&dir)).unwrap();
            fs::write(mount.join(&file), b"x").unwrap();
            fs::rename(mount.join(&dir), mount.join(format!("{dir}.moved"))).unwrap();
            let _ = fs::read_dir(mount.join("shared")).unwrap().count();
            fs::remove_dir(mount.join(format!("{dir}.moved"))).unwrap();
            fs::remove_file(mount.join(&file)).unwrap();
            longest = longest.max(begun.elapsed());
            done += 1;
        }
        (done, longest)
    };
    let (first, second) = std::thread::scope(|scope| {
        let threads = (scope.spawn(|| work(&a, "a")), scope.spawn(|| work(&b, "b")));
        std::thread::sleep(Duration::from_secs(4));
        stop.store(true, Ordering::Relaxed);
        (threads.0.join().unwrap(), threads.1.join().unwrap())
    });
    println!("rounds and longest round: {first:?} {second:?}");
    // A wait for each other would end only with a lease, after its term, and leave two rounds.
    assert!(first.0 > 10 && second.0 > 10, "{first:?} {second:?}");
    assert_eq!(fs::read_dir(a.join("shared")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(b.join("shared")).unwrap().count(), 0);
}

#[test]
fn a_frozen_mount_holds_up_others_for_one_term_and_believes_nothing_old() {
    let (cluster, a, b) = pair();
    fs::write(b.join("f"), b"old").unwrap();
    warm(&a.join("f"));
    warm(&a.join("absent"));
    let frozen = Pid::from_raw(cluster.process("mount").pid.unwrap()).unwrap();
    kill_process(frozen, Signal::STOP).unwrap();
    let begun = Instant::now();
    fs::write(b.join("f"), b"newer").unwrap();
    fs::write(b.join("absent"), b"there").unwrap();
    let waited = begun.elapsed();
    kill_process(frozen, Signal::CONT).unwrap();
    println!("a frozen holder held up two files for {waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(fs::metadata(a.join("f")).unwrap().len(), 5);
    assert_eq!(fs::read(a.join("f")).unwrap(), b"newer");
    assert_eq!(fs::read(a.join("absent")).unwrap(), b"there");
}

#[test]
fn what_was_cached_before_the_master_died_is_not_believed_after() {
    let (cluster, a, b) = pair();
    for round in 0..3 {
        let f = format!("f{round}");
        fs::write(a.join(&f), b"old").unwrap();
        warm(&b.join(&f));
        warm(&b.join("next"));
        cluster.kill("master-1");
        cluster.start("master-1");
        fs::write(a.join(&f), b"newer").unwrap();
        assert_eq!(fs::metadata(b.join(&f)).unwrap().len(), 5, "round {round}");
        fs::rename(a.join(&f), a.join("next")).unwrap();
        assert!(is_absent(&b.join(&f)), "round {round}");
        assert_eq!(fs::read(b.join("next")).unwrap(), b"newer");
    }
}

#[test]
fn a_reader_of_an_open_file_sees_its_new_length() {
    let (_cluster, a, b) = pair();
    let mut log = OpenOptions::new().create(true).append(true).open(a.join("log")).unwrap();
    log.write_all(b"0").unwrap();
    log.sync_all().unwrap();
    let reader = File::open(b.join("log")).unwrap();
    for round in 1..50_u64 {
        log.write_all(&[b'0' + (round % 10) as u8]).unwrap();
        log.sync_all().unwrap();
        assert_eq!(reader.metadata().unwrap().len(), round + 1);
        let mut last = [0];
        assert_eq!(reader.read_at(&mut last, round).unwrap(), 1, "round {round}");
        assert_eq!(last[0], b'0' + (round % 10) as u8);
    }
}

#[test]
fn a_file_opened_a_moment_before_it_is_unlinked_elsewhere_lives_on() {
    let (_cluster, a, b) = pair();
    let names: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
    names.iter().for_each(|name| fs::write(b.join(name), name).unwrap());
    names.iter().for_each(|name| warm(&a.join(name)));
    let mut open = Vec::new();
    for name in &names {
        open.push(File::open(a.join(name)).unwrap());
        fs::remove_file(b.join(name)).unwrap();
    }
    // Longer than the leader lets an unlinked file rest that nobody says is open.
    std::thread::sleep(Duration::from_secs(5));
    for (name, file) in names.iter().zip(&open) {
        let mut text = vec![0; name.len()];
        file.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, name.as_bytes());
    }
}

/// Makes `count` files of four bytes.
fn fill(directory: &Path, count: usize) {
    fs::create_dir(directory).unwrap();
    for file in 0..count {
        fs::write(directory.join(format!("f{file:04}")), b"old!").unwrap();
    }
}

/// Changes one file through `here`, and sees it at once through `there`.
fn change_and_look(here: &Path, there: &Path, file: usize) {
    let (path, seen) = (here.join(format!("f{file:04}")), there.join(format!("f{file:04}")));
    match file % 5 {
        0 => fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap(),
        1 => fs::write(&path, b"longer").unwrap(),
        2 => fs::remove_file(&path).unwrap(),
        3 => fs::rename(&path, here.join(format!("m{file:04}"))).unwrap(),
        _ => {
            fs::remove_file(&path).unwrap();
            fs::write(&path, b"another").unwrap();
        }
    }
    match file % 5 {
        0 => assert_eq!(fs::metadata(&seen).unwrap().mode() & 0o777, 0o604, "{file}"),
        1 => assert_eq!(fs::read(&seen).unwrap(), b"longer", "{file}"),
        2 => assert!(is_absent(&seen), "{file}"),
        3 => {
            assert!(is_absent(&seen), "{file}");
            assert_eq!(fs::read(there.join(format!("m{file:04}"))).unwrap(), b"old!");
        }
        _ => {
            assert_eq!(fs::metadata(&seen).unwrap().len(), 7, "{file}");
            assert_eq!(fs::read(&seen).unwrap(), b"another");
        }
    }
}

#[test]
fn what_was_fetched_ahead_is_taken_back_like_everything_else() {
    let (_cluster, a, b) = pair();
    for reads in [false, true] {
        let name = format!("walked{reads}");
        let (here, there) = (a.join(&name), b.join(&name));
        fill(&here, 200);
        // In the order of the listing: by now the neighbours that follow are in memory, with maps where files were read.
        for file in 0..60 {
            let path = there.join(format!("f{file:04}"));
            assert_eq!(fs::metadata(&path).unwrap().len(), 4);
            if reads {
                assert_eq!(fs::read(&path).unwrap(), b"old!");
            }
        }
        (60..200).for_each(|file| change_and_look(&here, &there, file));
    }
}

#[test]
fn changes_cross_with_what_is_fetched_ahead() {
    let (_cluster, a, b) = pair();
    for round in 0..6 {
        let name = format!("crossed{round}");
        let (here, there) = (a.join(&name), b.join(&name));
        fill(&here, 150);
        std::thread::scope(|scope| {
            for reader in 0..2 {
                let there = &there;
                scope.spawn(move || {
                    for file in 0..150 {
                        // It may be gone, renamed, or another one by now; its bytes are never mixed.
                        let path = there.join(format!("f{file:04}"));
                        if reader == 0 {
                            let _ = fs::metadata(path);
                        } else if let Ok(bytes) = fs::read(path) {
                            let whole: [&[u8]; 4] = [b"old!", b"longer", b"another", b""];
                            assert!(whole.contains(&&bytes[..]), "{bytes:?}");
                        }
                    }
                });
            }
            (0..150).step_by(7).for_each(|file| change_and_look(&here, &there, (file * 11) % 150));
        });
        let mut names: Vec<_> =
            fs::read_dir(&there).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let mut right: Vec<_> =
            fs::read_dir(&here).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        right.sort();
        assert_eq!(names, right);
    }
}
