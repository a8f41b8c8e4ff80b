//! The simulated disk keeps what was synced, and loses or tears the rest as the seed says.

use super::choice::{KeepAll, LoseAll};
use super::*;
use crate::disk::{read_small, replace_durably};
use std::collections::BTreeSet;

fn at(path: &str) -> PathBuf {
    PathBuf::from(path)
}

fn open(disk: &SimDisk, path: &str, mode: OpenMode) -> Arc<dyn DiskFile> {
    disk.open(&at(path), mode).unwrap()
}

fn contents(disk: &SimDisk, path: &str) -> Vec<u8> {
    read_small(disk, &at(path), 1 << 30).unwrap()
}

/// A disk with one durable file `f` of these bytes.
fn disk_with(bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = open(&disk, "f", OpenMode::Create);
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(&at("/")).unwrap();
    (disk, file)
}

#[test]
fn what_was_synced_survives_every_crash() {
    let (disk, file) = disk_with(&[7; 3000]);
    file.write_all_at(&[8; 1000], 1024).unwrap();
    file.sync_data().unwrap();
    for seed in 0..200 {
        let left = contents(&disk.crash_image(seed), "f");
        assert_eq!(left.len(), 3000);
        assert!(left[..1024].iter().all(|&b| b == 7) && left[1024..2024].iter().all(|&b| b == 8));
    }
}

#[test]
fn unsynced_sectors_are_lost_kept_and_mixed() {
    let (disk, file) = disk_with(&[0; 2048]);
    file.write_all_at(&[1; 2048], 0).unwrap();
    file.write_all_at(&[2; 1024], 512).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..2000 {
        let left = contents(&disk.crash_image(seed), "f");
        let sectors: Vec<u8> = left.chunks(512).map(|sector| sector[0]).collect();
        assert!(left.chunks(512).all(|sector| sector.iter().all(|&b| b == sector[0])), "a sector was torn");
        seen.insert(sectors);
    }
    // Outer sectors have two states, inner ones three: all 36 combinations occur, reordered ones among them.
    assert_eq!(seen.len(), 36);
}

#[test]
fn a_partial_sector_write_keeps_its_neighbours() {
    let (disk, file) = disk_with(&[9; 512]);
    file.write_all_at(&[1; 10], 100).unwrap();
    file.write_all_at(&[2; 10], 105).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        seen.insert(contents(&disk.crash_image(seed), "f"));
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|left| left[..100] == [9; 100] && left[115..] == [9; 397]));
}

#[test]
fn the_length_is_that_of_some_prefix() {
    let (disk, file) = disk_with(b"");
    for round in 0..4u64 {
        file.write_all_at(&[1; 100], round * 100).unwrap();
    }
    let lengths: BTreeSet<usize> =
        (0..500).map(|seed| contents(&disk.crash_image(seed), "f").len()).collect();
    assert_eq!(lengths, BTreeSet::from([0, 100, 200, 300, 400]));
}

#[test]
fn a_cut_that_reached_the_disk_erases() {
    let (disk, file) = disk_with(&[5; 2000]);
    file.set_len(100).unwrap();
    file.set_len(2000).unwrap();
    for seed in 0..200 {
        let left = contents(&disk.crash_image(seed), "f");
        let erased = left.len() == 100 || left[100..].iter().all(|&b| b == 0);
        assert!(erased || left == vec![5; 2000], "neither before nor after the cut");
    }
}

#[test]
fn names_are_durable_after_their_directory_is_synced() {
    let disk = SimDisk::new();
    disk.create_dir_all(&at("a/b")).unwrap();
    open(&disk, "a/b/f", OpenMode::CreateNew).sync_all().unwrap();
    assert!(!disk.crash_image_with(&mut LoseAll).exists(&at("a")).unwrap());
    assert!(disk.crash_image_with(&mut KeepAll).exists(&at("a/b/f")).unwrap());
    disk.sync_dir(&at("/")).unwrap();
    disk.sync_dir(&at("a/b")).unwrap();
    assert!(!disk.crash_image_with(&mut LoseAll).exists(&at("a/b")).unwrap(), "a was never synced");
    disk.sync_dir(&at("a")).unwrap();
    assert!(disk.crash_image_with(&mut LoseAll).exists(&at("a/b/f")).unwrap());
}

#[test]
fn a_rename_is_atomic_and_never_doubles() {
    let disk = SimDisk::new();
    disk.create_dir_all(&at("d")).unwrap();
    for name in ["/x", "d/x"] {
        open(&disk, name, OpenMode::CreateNew).sync_all().unwrap();
    }
    disk.sync_dir(&at("/")).unwrap();
    disk.sync_dir(&at("d")).unwrap();
    disk.rename(&at("x"), &at("d/y")).unwrap();
    disk.rename(&at("d/y"), &at("z")).unwrap();
    for seed in 0..200 {
        let image = disk.crash_image(seed);
        let there = ["x", "d/y", "z"].iter().filter(|name| image.exists(&at(name)).unwrap()).count();
        assert_eq!(there, 1, "seed {seed}");
    }
    disk.sync_dir(&at("/")).unwrap();
    let image = disk.crash_image_with(&mut LoseAll);
    assert!(image.exists(&at("z")).unwrap() && !image.exists(&at("x")).unwrap());
}

#[test]
fn replacing_durably_leaves_the_old_or_the_new_at_every_crash_point() {
    let disk = SimDisk::new();
    replace_durably(&disk, &at("s"), &[1; 1500]).unwrap();
    let done_before = disk.operations();
    disk.keep_crash_points();
    replace_durably(&disk, &at("s"), &[2; 1400]).unwrap();
    let points = disk.take_crash_points();
    assert_eq!(points.len() as u64, disk.operations() - done_before + 1);
    let mut old = 0;
    for (index, point) in points.iter().enumerate() {
        for seed in 0..100 {
            let left = contents(&point.disk.crash_image(seed), "s");
            assert!(left == vec![1; 1500] || left == vec![2; 1400], "before {:?}, seed {seed}", point.before);
            old += usize::from(left.len() == 1500);
            assert!(index + 1 < points.len() || left.len() == 1400, "it was acknowledged");
        }
    }
    assert!(old > 0);
}

#[test]
fn a_missing_sync_is_caught() {
    let disk = SimDisk::new();
    let file = open(&disk, "s.new", OpenMode::CreateNew);
    file.write_all_at(&[1; 1500], 0).unwrap();
    disk.rename(&at("s.new"), &at("s")).unwrap();
    disk.sync_dir(&at("/")).unwrap();
    let whole = (0..100).filter(|&seed| contents(&disk.crash_image(seed), "s") == vec![1; 1500]).count();
    assert!(whole < 100, "unsynced bytes must get lost");
}

#[test]
fn after_power_is_cut_nothing_works_and_the_image_is_of_that_moment() {
    let (disk, file) = disk_with(&[1; 512]);
    disk.crash_after(disk.operations() + 1);
    file.write_all_at(&[2; 512], 0).unwrap();
    assert!(file.sync_all().is_err());
    assert!(file.read_at(&mut [0; 4], 0).is_err());
    assert!(disk.open(&at("f"), OpenMode::Read).is_err());
    assert_eq!(contents(&disk.crash_image_with(&mut LoseAll), "f"), vec![1; 512]);
    assert_eq!(contents(&disk.crash_image_with(&mut KeepAll), "f"), vec![2; 512]);
}

#[test]
fn a_failed_sync_forgets_and_the_next_one_claims_success() {
    let (disk, file) = disk_with(&[0; 64 * 512]);
    file.write_all_at(&[1; 64 * 512], 0).unwrap();
    disk.fail_sync("f", 1);
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.write_all_at(&[2; 512], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(contents(&disk, "f")[512..], [1; 63 * 512], "the page cache still shows it");
    let left: BTreeSet<Vec<u8>> = (0..20).map(|seed| contents(&disk.crash_image(seed), "f")).collect();
    assert_eq!(left.len(), 1, "what was forgotten is forgotten");
    let left = left.into_iter().next().unwrap();
    assert_eq!(left[..512], [2; 512]);
}

#[test]
fn faults_hit_where_they_are_aimed() {
    let (disk, file) = disk_with(&[3; 8192]);
    disk.fail_reads(&at("f"), 4096..4100).unwrap();
    assert!(file.read_at(&mut [0; 4096], 0).is_ok());
    assert_eq!(file.read_at(&mut [0; 2], 4099).unwrap_err().raw_os_error(), Some(5));
    assert!(open(&disk.crash_image(1), "f", OpenMode::Read).read_at(&mut [0; 2], 4099).is_err());
    file.write_all_at(&[1; 4], 4096).unwrap();
    assert!(file.read_at(&mut [0; 8192], 0).is_ok());
    disk.flip_bit(&at("f"), 5, 2).unwrap();
    assert_eq!(contents(&disk, "f")[5], 3 ^ 4);
    disk.fail_write("f", 2);
    file.write_all_at(&[1; 4], 0).unwrap();
    assert_eq!(file.write_all_at(&[9; 4], 0).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(contents(&disk, "f")[..4], [1; 4]);
}

#[test]
fn a_failed_sync_of_a_directory_keeps_its_names_unsynced() {
    let disk = SimDisk::new();
    open(&disk, "f", OpenMode::Create);
    disk.fail_sync_dir("/", 1);
    assert_eq!(disk.sync_dir(&at("/")).unwrap_err().raw_os_error(), Some(5));
    assert!(!disk.crash_image_with(&mut LoseAll).exists(&at("f")).unwrap());
    disk.sync_dir(&at("/")).unwrap();
    assert!(disk.crash_image_with(&mut LoseAll).exists(&at("f")).unwrap());
    assert_eq!(disk.syncs(), 2);
}

#[test]
fn a_full_disk_says_so_and_recovers() {
    let (disk, file) = disk_with(&[3; 8192]);
    disk.set_capacity(4 * 4096);
    assert_eq!(disk.space(&at("/")).unwrap(), Space { total: 16384, free: 8192 });
    let second = open(&disk, "g", OpenMode::Create);
    second.allocate(0, 8192).unwrap();
    assert_eq!(second.allocated().unwrap(), 8192);
    assert_eq!(file.write_all_at(&[1], 8192).unwrap_err().raw_os_error(), Some(28));
    file.write_all_at(&[1; 8192], 0).unwrap();
    disk.remove_file(&at("g")).unwrap();
    drop(second);
    disk.sync_dir(&at("/")).unwrap();
    file.write_all_at(&[1], 8192).unwrap();
    file.set_len(1).unwrap();
    assert_eq!(disk.space(&at("/")).unwrap().free, 3 * 4096);
}

#[test]
fn sparse_files_and_truncation_read_as_zeros() {
    let (disk, file) = disk_with(b"abc");
    file.write_all_at(b"end", 10 << 20).unwrap();
    file.set_len(2).unwrap();
    file.set_len(600_000).unwrap();
    let all = contents(&disk, "f");
    assert_eq!((all.len(), &all[..2]), (600_000, &b"ab"[..]));
    assert!(all[2..].iter().all(|&b| b == 0));
    assert_eq!(file.allocated().unwrap(), 4096);
}

#[test]
fn directories_behave_like_directories() {
    let disk = SimDisk::new();
    disk.create_dir_all(&at("/data/x")).unwrap();
    open(&disk, "/data/f", OpenMode::Create);
    let names: Vec<_> = disk.list(&at("/data")).unwrap().into_iter().map(|i| (i.name, i.is_dir)).collect();
    assert_eq!(names, [("f".into(), false), ("x".into(), true)]);
    assert_eq!(
        disk.open(&at("/data"), OpenMode::Read).map(|_| ()).unwrap_err().kind(),
        io::ErrorKind::IsADirectory
    );
    assert_eq!(
        disk.open(&at("/no/f"), OpenMode::Create).map(|_| ()).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    let guard = disk.lock(&at("/data/lock")).unwrap();
    assert_eq!(disk.lock(&at("/data/lock")).map(|_| ()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(guard);
    disk.lock(&at("/data/lock")).unwrap();
    disk.remove_dir_all(&at("/data")).unwrap();
    assert!(disk.list(&at("/")).unwrap().is_empty());
    let reader = disk.open(&at("/f"), OpenMode::Create).unwrap();
    drop(reader);
    assert!(open(&disk, "/f", OpenMode::Read).write_all_at(b"x", 0).is_err());
}

#[test]
fn ten_thousand_crash_states_take_little_time() {
    let disk = SimDisk::new();
    let file = open(&disk, "journal", OpenMode::Create);
    file.allocate(0, 16 << 20).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(&at("/")).unwrap();
    disk.keep_crash_points();
    for batch in 0..50u64 {
        file.write_all_at(&[batch as u8; 6000], batch * 6000).unwrap();
        file.sync_data().unwrap();
    }
    let mut states = 0;
    for (number, point) in disk.take_crash_points().into_iter().enumerate() {
        for seed in 0..100 {
            let image = point.disk.crash_image(seed * 1000 + number as u64);
            let mut first = [0; 1];
            open(&image, "journal", OpenMode::Read).read_at(&mut first, 0).unwrap();
            states += 1;
        }
    }
    assert_eq!(states, 10_100);
}

#[test]
fn what_rots_at_rest_shows_on_the_medium_only() {
    let (disk, file) = disk_with(&[7; 8192]);
    let medium = disk.open_medium(&at("f")).unwrap();
    disk.rot_bit(&at("f"), 5000, 0).unwrap();
    file.write_all_at(&[8; 100], 0).unwrap();
    let read = |offset: u64| {
        let (mut cached, mut there) = ([0; 1], [0; 1]);
        file.read_at(&mut cached, offset).unwrap();
        medium.read_at(&mut there, offset).unwrap();
        (cached[0], there[0])
    };
    assert_eq!((read(5000), read(50), read(5001)), ((7, 6), (8, 8), (7, 7)));
    file.sync_data().unwrap();
    assert_eq!((read(5000), read(50)), ((7, 6), (8, 8)), "a sync writes what is dirty, and no more");
    file.write_all_at(&[9; 100], 4990).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(5000), (9, 9));
}

#[test]
fn damage_is_told_from_other_failures() {
    use crate::disk::is_damage;
    let disk = SimDisk::new();
    assert!(is_damage(&disk.open_medium(&at("none")).map(|_| ()).unwrap_err()));
    let (disk, _) = disk_with(&[7; 8192]);
    disk.fail_reads(&at("f"), 0..10).unwrap();
    let medium = disk.open_medium(&at("f")).unwrap();
    assert!(is_damage(&medium.read_at(&mut [0; 20], 0).unwrap_err()));
    disk.crash_after(0);
    assert!(!is_damage(&medium.read_at(&mut [0; 20], 0).unwrap_err()));
    let real = crate::disk_real::RealDisk;
    assert!(is_damage(&real.open_medium(&at("/proc/self/none/none")).map(|_| ()).unwrap_err()));
}

#[test]
fn a_full_disk_takes_what_fits_and_a_replacement_leaves_the_old() {
    let disk = SimDisk::new();
    replace_durably(&disk, &at("s"), &[1; 1500]).unwrap();
    disk.set_capacity(3 * 4096);
    let file = disk.open(&at("f"), OpenMode::CreateNew).unwrap();
    let error = file.write_all_at(&[2; 4 * 4096], 100).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(contents(&disk, "f").len(), 2 * 4096, "what fits is there, up to the end of a page");
    let error = replace_durably(&disk, &at("s"), &[3; 1500]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(contents(&disk, "s"), vec![1; 1500]);
    assert!(!disk.exists(&at("s.new")).unwrap());
}

#[test]
fn a_sync_without_room_is_not_taken_for_a_write_without_room() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(crate::disk::of_sync(full).kind(), std::io::ErrorKind::Other);
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    assert_eq!(crate::disk::of_sync(missing).kind(), std::io::ErrorKind::NotFound);
}
