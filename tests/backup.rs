//! The metadata is backed up while applications run, all masters are lost, and everything up to the last shipment comes back.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::cairn_binary;
use cairn_tests::fake_s3::FakeS3;
use cairn_tests::load::number;
use cairn_tests::{Cluster, ClusterOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a restore may lack at the most.
const LOSS_MAX: Duration = Duration::from_secs(5);

/// A destination, and a cluster whose masters ship there.
fn cluster(masters: u32) -> (Cluster, tempfile::TempDir, String) {
    let cluster = Cluster::up(ClusterOptions { masters, replicas: 2, ..ClusterOptions::default() });
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().display());
    ship_to(&cluster, masters, &[("backup", &format!("{url:?}"))]);
    (cluster, directory, url)
}

/// Restarts the masters with settings, and waits until something can be restored.
fn ship_to(cluster: &Cluster, masters: u32, settings: &[(&str, &str)]) {
    for master in 1..=masters {
        let name = format!("master-{master}");
        cluster.stop(&name);
        settings.iter().for_each(|(key, value)| set(cluster, &name, key, value));
        cluster.start(&name);
    }
    wait_until_restorable(cluster);
}

/// Changes a setting of a master that is stopped.
fn set(cluster: &Cluster, name: &str, key: &str, value: &str) {
    let file = cluster.root().join(name).join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let others = text.lines().filter(|line| !line.starts_with(&format!("{key} =")));
    let text: Vec<String> = others.map(str::to_owned).chain([format!("{key} = {value}")]).collect();
    fs::write(&file, text.join("\n") + "\n").unwrap();
}

fn backup_status(cluster: &Cluster) -> serde_json::Value {
    cluster.json(&["admin", "status"])["backup"].clone()
}

/// Waits until everything that was acknowledged before this call can be restored.
fn wait_until_restorable(cluster: &Cluster) {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let status = backup_status(cluster);
        let age = Duration::from_millis(status["age_ms"].as_u64().unwrap());
        if status["restorable"] == true && asked.elapsed() + age < begun.elapsed() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// An application in a process of its own, which can be stuck without the test being stuck: makes files one after the other and
/// notes each when it is acknowledged.
struct Writer {
    child: Child,
    directory: String,
    notes: PathBuf,
}

impl Writer {
    fn start(cluster: &Cluster, mount: &Path, number: usize) -> Self {
        let directory = format!("writer-{number}");
        fs::create_dir(mount.join(&directory)).unwrap();
        let notes = cluster.root().join(format!("notes-{number}"));
        let script = format!(
            "i=0; while :; do i=$((i+1)); echo \"contents of $i\" > {}/f$i && echo $i $(date +%s%N) >> {}; done",
            mount.join(&directory).display(),
            notes.display()
        );
        let mut command = Command::new("sh");
        let child = command.args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, directory, notes }
    }

    /// Files acknowledged, and when.
    fn acknowledged(&self) -> Vec<(u64, Duration)> {
        let text = fs::read_to_string(&self.notes).unwrap_or_default();
        let line = |line: &str| {
            let (number, nanos) = line.split_once(' ')?;
            Some((number.parse().ok()?, Duration::from_nanos(nanos.parse().ok()?)))
        };
        text.lines().filter_map(line).collect()
    }

    fn wait_for(&self, more: usize) {
        let wanted = self.acknowledged().len() + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.acknowledged().len() < wanted {
            assert!(Instant::now() < deadline, "a writer is stuck");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may be stuck in the mount: it is waited for when the cluster serves again, or goes.
        drop(self.child.kill());
    }
}

/// Kills all masters at once, without starting a process: while nobody leads, that would wait for the mounts.
fn kill_all_masters(cluster: &Cluster) {
    let processes = cluster.ps();
    for process in processes.iter().filter(|process| process.name.starts_with("master-")) {
        let pid = rustix::process::Pid::from_raw(process.pid.unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    for process in processes.iter().filter(|process| process.name.starts_with("master-")) {
        fs::remove_dir_all(&process.data_dirs[0]).unwrap();
    }
}

/// Needs no master, and does not look for any: that would wait for the mounts.
fn restore(url: &str, to: &Path, more: &[&str]) -> serde_json::Value {
    let mut command = Command::new(cairn_binary());
    command.args(["--json", "admin", "backup", "restore", url, "--to"]).arg(to).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Seconds since 1970 of a moment that the command printed, by another program than ours.
fn seconds(moment: &str) -> Duration {
    let output = Command::new("date").args(["-d", moment, "+%s%N"]).output().unwrap();
    Duration::from_nanos(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

#[test]
fn all_masters_are_lost_under_load_and_everything_shipped_comes_back() {
    let (mut cluster, _directory, url) = cluster(3);
    let mounts = [cluster.mount(), cluster.second_mount()];
    let writers: Vec<Writer> =
        mounts.iter().enumerate().map(|(number, mount)| Writer::start(&cluster, mount, number)).collect();
    writers.iter().for_each(|writer| writer.wait_for(50));
    cluster.cairn(&["admin", "backup", "create"]);
    // A new leader goes on with what the lost one has shipped.
    let lost = cluster.leader();
    cluster.kill(&lost);
    writers.iter().for_each(|writer| writer.wait_for(100));
    cluster.start(&lost);
    wait_until_restorable(&cluster);
    let leader = cluster.leader();
    assert!(cluster.log(&leader).contains("goes on with the backup"), "it has begun anew");
    std::thread::sleep(Duration::from_secs(number("CAIRN_BACKUP_SECONDS").unwrap_or(5)));
    cluster.cairn(&["admin", "backup", "verify"]);
    writers.iter().for_each(|writer| writer.wait_for(20));
    let addresses: Vec<String> = (1..=3).map(|id| cluster.process(&format!("master-{id}")).address).collect();
    let data_dir = cluster.process("master-1").data_dirs[0].clone();
    kill_all_masters(&cluster);
    let died = now();
    let noted: Vec<_> = writers.iter().map(Writer::acknowledged).collect();
    let directories: Vec<String> = writers.iter().map(|writer| writer.directory.clone()).collect();
    drop(writers);
    let restored = restore(&url, &data_dir, &[]);
    let until = seconds(restored["time"].as_str().unwrap());
    set(&cluster, "master-1", "members", "[]");
    cluster.start("master-1");
    cluster.remount();
    let (mut lost, mut there) = (0, 0);
    for (directory, noted) in directories.iter().zip(&noted) {
        for (number, when) in noted {
            let file = mounts[0].join(directory).join(format!("f{number}"));
            let found = fs::read_to_string(&file);
            if !matches!(&found, Ok(contents) if *contents == format!("contents of {number}\n")) {
                // Of what was done at the very end the beginning may be there: a name without its contents.
                assert!(*when >= until, "{} was acknowledged before that moment: {found:?}", file.display());
                lost += 1;
                continue;
            }
            there += 1;
        }
    }
    let loss = died.saturating_sub(until);
    println!(
        "all masters lost: {there} files are there, {lost} acknowledged ones lost, the restored moment is {:.2} s before the end",
        loss.as_secs_f64()
    );
    assert!(there > 200 && loss <= LOSS_MAX, "{there} files, {loss:?}");
    others_join(&cluster, &addresses);
    fs::write(mounts[0].join("after"), vec![9; 100_000]).unwrap();
    wait_until_restorable(&cluster);
    cluster.cairn(&["admin", "backup", "verify", &url]);
    assert_eq!(fs::read(mounts[0].join("after")).unwrap(), vec![9; 100_000]);
}

/// The other masters, whose directories are gone, are taken in again, and one of them leads.
fn others_join(cluster: &Cluster, addresses: &[String]) {
    for id in 2..=3 {
        cluster.cairn(&["admin", "masters", "add", &format!("{id}={}", addresses[id - 1])]);
        cluster.start(&format!("master-{id}"));
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_there = |masters: &serde_json::Value| {
            let masters = masters.as_array().unwrap();
            masters
                .iter()
                .any(|master| master["id"].as_u64() == Some(id as u64) && master["state"] == "follower")
        };
        while !is_there(&cluster.json(&["admin", "masters"])) {
            assert!(Instant::now() < deadline, "master {id} does not follow");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    cluster.cairn(&["admin", "masters", "transfer-leader", "2"]);
    assert_eq!(cluster.leader(), "master-2");
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.try_cairn(arguments);
    assert!(!output.status.success(), "{arguments:?} was accepted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_earlier_moment_is_restored_and_damage_refused() {
    let (cluster, directory, url) = cluster(1);
    let (mount, scratch) = (cluster.mount(), tempfile::tempdir().unwrap());
    fs::create_dir(mount.join("early")).unwrap();
    (0..50).for_each(|number| fs::write(mount.join("early").join(number.to_string()), "early").unwrap());
    wait_until_restorable(&cluster);
    let index = backup_status(&cluster)["shipped_index"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let moment = String::from_utf8(Command::new("date").args(["-u", "+%FT%T.%NZ"]).output().unwrap().stdout);
    std::thread::sleep(Duration::from_millis(100));
    fs::rename(mount.join("early"), mount.join("late")).unwrap();
    fs::write(mount.join("late/new"), "late").unwrap();
    wait_until_restorable(&cluster);
    cluster.cairn(&["admin", "backup", "verify", "--latest"]);
    let by_index = restore(&url, &scratch.path().join("a"), &["--index", &index.to_string()]);
    assert_eq!(by_index["index"], index);
    let by_moment = restore(&url, &scratch.path().join("b"), &["--at", moment.unwrap().trim()]);
    assert!(by_moment["index"].as_u64() >= Some(index) && by_moment["skipped_entries"].as_u64() > Some(0));
    assert_ne!(by_index["history"], by_moment["history"], "each restore has a history of its own");
    let taken = scratch.path().join("a");
    let target = taken.to_str().unwrap();
    assert!(
        refused(&cluster, &["admin", "backup", "restore", &url, "--to", target]).contains("is not empty")
    );
    damage_is_refused(&cluster, directory.path(), scratch.path());
    // A master starts with it, in the place of the one that knew more.
    let data_dir = cluster.process("master-1").data_dirs[0].clone();
    cluster.stop("mount");
    cluster.stop("master-1");
    fs::remove_dir_all(&data_dir).unwrap();
    fs::rename(scratch.path().join("b"), &data_dir)
        .or_else(|_| copied(&scratch.path().join("b"), &data_dir))
        .unwrap();
    cluster.start("master-1");
    cluster.start("mount");
    assert!(!mount.join("late").exists());
    for number in 0..50 {
        assert_eq!(fs::read_to_string(mount.join("early").join(number.to_string())).unwrap(), "early");
    }
    fs::write(mount.join("early/again"), "after").unwrap();
    wait_until_restorable(&cluster);
    let listed = cluster.json(&["admin", "backup", "list"]);
    assert!(
        listed.as_array().unwrap().iter().any(|life| life["history"] == by_moment["history"]),
        "{listed}"
    );
}

fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status()?;
    if done.success() { Ok(()) } else { Err(std::io::Error::other("cp")) }
}

/// One byte of any object, or a whole object: verify says so, and a restore that needs it makes nothing that would start.
fn damage_is_refused(cluster: &Cluster, destination: &Path, scratch: &Path) {
    let copy = scratch.join("copy");
    copied(destination, &copy).unwrap();
    let url = format!("file://{}", copy.display());
    cluster.cairn(&["admin", "backup", "verify", &url, "--latest"]);
    let needed = files_below(&copy).into_iter().filter(|file| !file.ends_with("origin"));
    let (mut tried, mut restores) = (0, 0);
    for file in needed {
        let whole = fs::read(&file).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        // Some files of a state are empty.
        damaged.get_mut(middle).map_or_else(|| (), |byte| *byte ^= 4);
        let longer = [&whole[..], b"x"].concat();
        for bytes in [&damaged[..], &longer].into_iter().filter(|bytes| *bytes != whole) {
            fs::write(&file, bytes).unwrap();
            refused(cluster, &["admin", "backup", "verify", &url]);
            let target = scratch.join(format!("damaged-{restores}"));
            let to = target.to_str().unwrap();
            let restored = cluster.try_cairn(&["admin", "backup", "restore", &url, "--to", to]);
            // An older image, or a shipment that only an older one needs, may be damaged without harm.
            assert_eq!(restored.status.success(), target.join("superblock").exists());
            restores += 1;
            tried += usize::from(!restored.status.success());
        }
        fs::write(&file, whole).unwrap();
    }
    assert!(tried > 4, "{tried} of {restores} restores were refused");
    let journal = files_below(&copy).into_iter().filter(|file| file.parent().unwrap().ends_with("journal"));
    let journal: Vec<PathBuf> = journal.collect();
    assert!(journal.len() > 1, "{journal:?}");
    fs::remove_file(&journal[journal.len() - 2]).unwrap();
    assert!(refused(cluster, &["admin", "backup", "verify", &url]).contains("is missing"));
    println!("damage: {tried} of {restores} restores met it, each was refused");
}

#[test]
fn a_destination_that_is_gone_is_told_and_nothing_is_skipped() {
    let (cluster, directory, _) = cluster(1);
    let (mount, away) = (cluster.mount(), tempfile::tempdir().unwrap());
    let kept = away.path().join("kept");
    for item in fs::read_dir(directory.path()).unwrap() {
        fs::rename(item.unwrap().path(), &kept).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        fs::write(mount.join("meanwhile"), "x").unwrap();
        let status = cluster.json(&["admin", "status"]);
        if status["warnings"].to_string().contains("the last restorable point of the backup is") {
            assert!(
                status["backup"]["failure"].as_str().unwrap().contains("newest image is gone"),
                "{status}"
            );
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let cluster_id = cluster.json(&["admin", "status"])["cluster"].as_str().unwrap().to_owned();
    fs::rename(&kept, directory.path().join(cluster_id)).unwrap();
    wait_until_restorable(&cluster);
    cluster.cairn(&["admin", "backup", "verify"]);
    assert_eq!(backup_status(&cluster)["gaps"], 0, "what was written meanwhile was shipped later");
}

/// Makes an image behind something new. Entries that can be restored from then on.
fn image(cluster: &Cluster, mount: &Path, number: u32) -> u64 {
    fs::write(mount.join(format!("before-{number}")), number.to_string()).unwrap();
    cluster.cairn(&["admin", "backup", "create"]);
    wait_until_restorable(cluster);
    backup_status(cluster)["image_index"].as_u64().unwrap()
}

/// Indexes of the images, once there are so many.
fn wait_for_images(cluster: &Cluster, wanted: usize) -> Vec<u64> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let listed = cluster.json(&["admin", "backup", "list"]);
        // Each restore has claimed a history, in which nothing stands.
        let life = listed.as_array().unwrap().iter().find(|life| life["history"] == 0).unwrap();
        let images = life["images"].as_array().unwrap();
        if images.len() == wanted && life["unfinished_images"] == 0 {
            return images.iter().map(|image| image["index"].as_u64().unwrap()).collect();
        }
        assert!(Instant::now() < deadline, "{listed:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Last entries of all shipments.
fn shipments(names: impl Iterator<Item = String>) -> Vec<u64> {
    let stretch = |name: String| {
        let (below, name) = name.rsplit_once('/')?;
        let (_, last) = name.split_once('-').filter(|_| below.ends_with("/journal"))?;
        u64::from_str_radix(last, 16).ok()
    };
    names.filter_map(stretch).collect()
}

#[test]
fn old_images_go_and_whatever_stays_can_be_restored() {
    let (cluster, directory, url) = cluster(3);
    let (mount, scratch) = (cluster.mount(), tempfile::tempdir().unwrap());
    let first = image(&cluster, &mount, 0);
    assert!(wait_for_images(&cluster, 2).len() == 2, "without the setting nothing goes");
    // What a crash has left of an image, before and behind those that stay.
    let images = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let images =
        files_below(&images)[0].ancestors().find(|path| path.ends_with("images")).unwrap().to_owned();
    let unfinished = |index: u64| images.join(format!("{index:016x}-00000001/state"));
    for index in [1, 1 << 40] {
        fs::create_dir_all(unfinished(index)).unwrap();
        fs::write(unfinished(index).join("CURRENT"), "x").unwrap();
    }
    ship_to(&cluster, 3, &[("backup_keep_images", "2")]);
    let made: Vec<u64> = (1..=4).map(|number| image(&cluster, &mount, number)).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    while shipments(files_below(directory.path()).iter().map(|file| file.display().to_string()))
        .iter()
        .any(|last| *last <= made[2])
        || unfinished(1).exists()
    {
        assert!(Instant::now() < deadline, "{:#?}", files_below(directory.path()));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(unfinished(1 << 40).exists(), "it may be in the making");
    fs::remove_dir_all(unfinished(1 << 40).parent().unwrap()).unwrap();
    assert_eq!(wait_for_images(&cluster, 2), made[2..]);
    cluster.cairn(&["admin", "backup", "verify"]);
    let to = |name: &str| scratch.path().join(name);
    let latest = restore(&url, &to("latest"), &[]);
    assert_eq!(latest["image"].as_u64(), Some(made[3]));
    let between = restore(&url, &to("between"), &["--index", &(made[2] + 1).to_string()]);
    assert_eq!((between["image"].as_u64(), between["index"].as_u64()), (Some(made[2]), Some(made[2] + 1)));
    let target = to("gone");
    let arguments = ["admin", "backup", "restore", &url, "--index", &first.to_string(), "--to"];
    let said = refused(&cluster, &[&arguments[..], &[target.to_str().unwrap()]].concat());
    assert!(said.contains("does not reach entry"), "{said}");
    // The newest image is damaged: the older one leads to the same moment, and is taken with a word.
    let newest = images.join(names_of(&images).into_iter().max().unwrap());
    let current = newest.join("state/CURRENT");
    let whole = fs::read(&current).unwrap();
    fs::write(&current, "y").unwrap();
    assert!(refused(&cluster, &["admin", "backup", "verify"]).contains("CURRENT"));
    let older = restore(&url, &to("older"), &["--history", "0"]);
    assert_eq!(older["image"].as_u64(), Some(made[2]));
    assert!(older["index"].as_u64() >= latest["index"].as_u64(), "{older}");
    assert_eq!(older["passed_over"].as_array().map(Vec::len), Some(1), "{older}");
    // It does not count, so that nothing of what can be restored goes.
    let last = image(&cluster, &mount, 5);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(wait_for_images(&cluster, 3), [made[2], made[3], last]);
    fs::write(&current, whole).unwrap();
    cluster.cairn(&["admin", "backup", "verify"]);
}

fn names_of(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_object_store_takes_the_backup_and_gives_it_back() {
    let store = FakeS3::start("metadata");
    let options = ClusterOptions { replicas: 2, ..ClusterOptions::default() };
    let cluster = Cluster::up_with(options, store.environment());
    let (mount, scratch, url) = (cluster.mount(), tempfile::tempdir().unwrap(), store.url("cairn/one"));
    ship_to(&cluster, 1, &[("backup", &format!("{url:?}")), ("backup_keep_images", "2")]);
    // Rows that do not compress: a file of the state that is put in parts.
    for number in 0..200 {
        let file = mount.join(format!("file-{number}"));
        fs::write(&file, number.to_string()).unwrap();
        let value = cairn_tests::corpus::bytes(number, 60_000);
        rustix::fs::setxattr(&file, "user.large", &value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let made: Vec<u64> = (1..=3).map(|number| image(&cluster, &mount, number)).collect();
    assert_eq!(wait_for_images(&cluster, 2), made[1..]);
    let (begun, completed) = store.uploads();
    assert!(begun >= 3 && begun == completed, "{begun} uploads in parts, {completed} completed");
    cluster.cairn(&["admin", "backup", "verify"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while shipments(store.names().into_iter()).iter().any(|last| *last <= made[1]) {
        assert!(Instant::now() < deadline, "{:#?}", store.names());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(store.removed() > 0);
    // While the store answers nothing the age grows and is told, and nothing is skipped.
    store.set_away(true);
    fs::write(mount.join("meanwhile"), "x").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster.json(&["admin", "status"])["warnings"].to_string().contains("last restorable point") {
        assert!(Instant::now() < deadline, "nobody is told");
        std::thread::sleep(Duration::from_millis(200));
    }
    store.set_away(false);
    wait_until_restorable(&cluster);
    assert_eq!(backup_status(&cluster)["gaps"], 0);
    cluster.cairn(&["admin", "backup", "verify", &url]);
    let restored = |name: &str| {
        let to = scratch.path().join(name);
        cluster.json(&["admin", "backup", "restore", &url, "--to", to.to_str().unwrap()])
    };
    let (one, other) = (restored("one"), restored("other"));
    assert_ne!(one["history"], other["history"], "each has claimed its own");
    let data_dir = cluster.process("master-1").data_dirs[0].clone();
    cluster.stop("mount");
    cluster.stop("master-1");
    fs::remove_dir_all(&data_dir).unwrap();
    copied(&scratch.path().join("one"), &data_dir).unwrap();
    let sound = cluster.json(&["admin", "fsck", data_dir.to_str().unwrap()]);
    assert_eq!(sound["total"], 0, "{sound:#}");
    cluster.start("master-1");
    cluster.start("mount");
    assert_eq!(fs::read_to_string(mount.join("meanwhile")).unwrap(), "x");
    assert_eq!(fs::read_to_string(mount.join("file-199")).unwrap(), "199");
    wait_until_restorable(&cluster);
}
