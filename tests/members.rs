//! Masters that come, go, lose their disks and find their files damaged, while applications run.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::cairn_binary;
use cairn_tests::load::{Load, number, report};
use cairn_tests::{Cluster, ClusterOptions};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MASTERS: [&str; 3] = ["master-1", "master-2", "master-3"];

fn cluster() -> (Cluster, Vec<PathBuf>) {
    let mut cluster = Cluster::up(ClusterOptions { masters: 3, replicas: 2, ..ClusterOptions::default() });
    let mounts = vec![cluster.mount(), cluster.second_mount()];
    (cluster, mounts)
}

fn id(name: &str) -> String {
    name.rsplit('-').next().unwrap().to_owned()
}

fn standby(cluster: &Cluster) -> &'static str {
    let leader = cluster.leader();
    MASTERS.into_iter().find(|name| *name != leader).unwrap()
}

/// State of a master by its number, as the leader sees it.
fn state(cluster: &Cluster, id: &str) -> String {
    let masters = cluster.json(&["admin", "masters"]);
    let found = masters.as_array().unwrap().iter().find(|master| master["id"].as_u64() == id.parse().ok());
    found.map_or_else(String::new, |master| master["state"].as_str().unwrap().to_owned())
}

fn wait_for_state(cluster: &Cluster, id: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = state(cluster, id);
        if now == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "master {id} is {now}, not {wanted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lost_disks_are_replaced_under_load() {
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 71);
    let mut stalls = Vec::new();
    for round in 0..number("CAIRN_REPLACED").unwrap_or(2) {
        load.wait_for_all();
        // The leader's, every other time.
        let lost = if round % 2 == 0 { standby(&cluster).to_owned() } else { cluster.leader() };
        load.longest();
        cluster.kill(&lost);
        fs::remove_dir_all(&cluster.process(&lost).data_dirs[0]).unwrap();
        cluster.cairn(&["admin", "masters", "replace", &id(&lost)]);
        assert_eq!(state(&cluster, &id(&lost)), "awaited");
        cluster.start(&lost);
        wait_for_state(&cluster, &id(&lost), "follower");
        load.wait_for_all();
        stalls.push(load.longest());
        // Only with its vote is there a majority now.
        let leader = cluster.leader();
        let other = MASTERS.into_iter().find(|name| *name != lost && *name != leader).unwrap();
        cluster.kill(other);
        load.wait_for_all();
        cluster.start(other);
    }
    let operations = load.finish_and_verify(&mounts);
    report("lost disk replaced", stalls, operations);
}

/// A master beside those of `dev`.
struct Extra(Child);

impl Drop for Extra {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An address of the cluster's own that nobody listens at.
fn free_address(cluster: &Cluster) -> String {
    let host = cluster.process("master-1").address.rsplit_once(':').unwrap().0.to_owned();
    std::net::TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().to_string()
}

fn extra_master(cluster: &Cluster, number: u32, address: &str) -> Extra {
    let directory = cluster.root().join(format!("extra-{number}"));
    fs::create_dir(&directory).unwrap();
    let first = fs::read_to_string(cluster.root().join("master-1/config.toml")).unwrap();
    let setting = |key: &str| {
        let line = first.lines().find(|line| line.starts_with(&format!("{key} ="))).unwrap();
        line.split_once('=').unwrap().1.trim().to_owned()
    };
    let host = address.rsplit_once(':').unwrap().0;
    let members = setting("members");
    let members = format!("{}, \"{number}={address}\"]", members.trim_end_matches(']'));
    let config = format!(
        "data_dir = {:?}\nlisten = \"{address}\"\nhttp_listen = \"{host}:0\"\nnode_id = {number}\n\
         members = {members}\ncluster = {}\ndefault_replicas = 2\n",
        directory.join("data"),
        setting("cluster"),
    );
    let file = directory.join("config.toml");
    fs::write(&file, config).unwrap();
    let log = File::create(directory.join("log")).unwrap();
    let mut command = Command::new(cairn_binary());
    command.args(["master", "--config"]).arg(&file).stdout(log.try_clone().unwrap()).stderr(log);
    Extra(command.stdin(Stdio::null()).spawn().unwrap())
}

#[test]
fn masters_come_and_go_under_load() {
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 83);
    load.wait_for_all();
    // Before its place is made it is told how to get one.
    let address = free_address(&cluster);
    let refused = extra_master(&cluster, 4, &address).0.wait().unwrap();
    assert!(!refused.success());
    let said = fs::read_to_string(cluster.root().join("extra-4/log")).unwrap();
    assert!(said.contains("cairn admin masters add 4="), "{said}");
    cluster.cairn(&["admin", "masters", "add", &format!("4={address}")]);
    fs::remove_dir_all(cluster.root().join("extra-4")).unwrap();
    let add = cluster.try_cairn(&["admin", "masters", "add", &format!("4={address}")]);
    assert!(String::from_utf8_lossy(&add.stderr).contains("exists already"));
    let _fourth = extra_master(&cluster, 4, &address);
    wait_for_state(&cluster, "4", "follower");
    // Four vote: two of the first three and the new one are a majority, also when it leads.
    cluster.cairn(&["admin", "masters", "transfer-leader", "4"]);
    load.wait_for_all();
    wait_for_state(&cluster, "4", "leader");
    let leads = cluster.try_cairn(&["admin", "masters", "remove", "4"]);
    assert!(String::from_utf8_lossy(&leads.stderr).contains("let another one lead first"));
    cluster.cairn(&["admin", "masters", "remove", "2"]);
    load.wait_for_all();
    assert_eq!(state(&cluster, "2"), "");
    // Chunk servers and clients have heard of the one that is named in none of their configurations.
    cluster.kill("master-1");
    load.wait_for_all();
    fs::write(mounts[0].join("new"), vec![7; 100_000]).unwrap();
    assert_eq!(fs::read(mounts[1].join("new")).unwrap(), vec![7; 100_000]);
    cluster.start("master-1");
    let operations = load.finish_and_verify(&mounts);
    println!("masters that come and go: {operations} operations");
}

/// Masters that keep little journal.
fn forgetful(cluster: &Cluster) {
    for name in MASTERS {
        cluster.stop(name);
        let file = cluster.root().join(name).join("config.toml");
        let text = fs::read_to_string(&file).unwrap();
        let others = text.lines().filter(|line| !line.starts_with("journal_keep_mib"));
        let text: Vec<&str> = others.chain(["journal_keep_mib = 16"]).collect();
        fs::write(&file, text.join("\n") + "\n").unwrap();
        cluster.start(name);
    }
}

/// Writes so much journal that a master that is away finds none of what it lacks.
fn outlast(mount: &Path) {
    let file = mount.join("outlast");
    File::create(&file).unwrap();
    let value = [5_u8; 4000];
    for number in 0..12_000 {
        let name = format!("user.{}", number % 8);
        rustix::fs::setxattr(&file, name.as_str(), &value, rustix::fs::XattrFlags::empty()).unwrap();
    }
}

#[test]
fn a_master_that_was_away_too_long_is_filled() {
    let (cluster, mounts) = cluster();
    forgetful(&cluster);
    let away = standby(&cluster);
    let marks = mounts[0].join("marks");
    fs::create_dir(&marks).unwrap();
    (0..200).for_each(|number| fs::write(marks.join(number.to_string()), "before").unwrap());
    cluster.kill(away);
    outlast(&mounts[0]);
    let load = Load::start(&mounts, 97);
    cluster.start(away);
    wait_for_state(&cluster, &id(away), "follower");
    let log = cluster.log(away);
    assert!(log.contains("a copy of the state is installed"), "it had all it needed");
    load.wait_for_all();
    cluster.cairn(&["admin", "masters", "transfer-leader", &id(away)]);
    load.wait_for_all();
    assert_eq!(cluster.leader(), away);
    assert_eq!(fs::read_dir(&marks).unwrap().count(), 200);
    load.finish_and_verify(&mounts);
}

/// Inverts bytes of a file.
fn damage(file: &Path, offset: u64, length: usize) {
    let open = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut bytes = vec![0; length];
    let read = open.read_at(&mut bytes, offset).unwrap();
    bytes.truncate(read);
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    open.write_all_at(&bytes, offset).unwrap();
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut stack = vec![directory.to_owned()];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { stack.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What is damaged of a master's directory.
#[derive(Clone, Copy)]
enum Region {
    /// So many bytes at an offset of the newest segment with records.
    Journal(u64, usize),
    /// The bytes at an offset of every file of the state with this in its name.
    State(&'static str, u64),
    /// All that is in the checkpoints; there are some.
    Checkpoints,
    /// A whole directory.
    Gone(&'static str),
}

impl Region {
    fn damage(self, data: &Path) {
        match self {
            Self::Journal(offset, length) => {
                let segments = files_below(&data.join("journal"));
                let has_records =
                    |file: &PathBuf| fs::read(file).unwrap()[512..].iter().any(|byte| *byte != 0);
                let newest = segments
                    .into_iter()
                    .rfind(|file| file.extension().is_some_and(|end| end == "journal") && has_records(file));
                damage(&newest.unwrap(), offset, length);
            }
            Self::State(name, offset) => {
                let files = files_below(&data.join("state"));
                let hit: Vec<_> =
                    files.into_iter().filter(|file| file.to_string_lossy().contains(name)).collect();
                assert!(!hit.is_empty());
                hit.iter().for_each(|file| damage(file, offset, 64));
            }
            Self::Checkpoints => {
                let files = files_below(&data.join("checkpoints"));
                assert!(!files.is_empty());
                files.iter().for_each(|file| damage(file, 0, 64));
            }
            Self::Gone(name) => fs::remove_dir_all(data.join(name)).unwrap(),
        }
    }
}

/// A start that has replayed much is followed by a checkpoint.
fn have_a_checkpoint_made(cluster: &Cluster, victim: &str, load: &Load) {
    let checkpoints = cluster.process(victim).data_dirs[0].join("checkpoints");
    let deadline = Instant::now() + Duration::from_secs(60);
    while files_below(&checkpoints).is_empty() {
        assert!(Instant::now() < deadline, "no checkpoint is made");
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            load.wait_for_all();
        }
        cluster.kill(victim);
        cluster.start(victim);
        wait_for_state(cluster, &id(victim), "follower");
    }
}

/// Every region of what one master keeps is damaged in turn: it comes back whole, filled by its leader where it must, and what it
/// says when it leads is right.
#[test]
fn a_damaged_master_comes_back_whole() {
    let (cluster, mounts) = cluster();
    let victim = standby(&cluster);
    let data = cluster.process(victim).data_dirs[0].clone();
    let load = Load::start(&mounts, 113);
    have_a_checkpoint_made(&cluster, victim, &load);
    let regions = [
        // First: who is filled has none.
        ("checkpoints, and the tables that the state shares with them", Region::Checkpoints),
        ("journal: header of a segment, and with it term and vote", Region::Journal(0, 512)),
        ("journal: the first batch", Region::Journal(512, 200)),
        ("journal: a batch in the middle", Region::Journal(4096, 512)),
        ("journal: everything", Region::Journal(0, 8 << 20)),
        ("journal: gone", Region::Gone("journal")),
        ("state: CURRENT", Region::State("CURRENT", 0)),
        ("state: MANIFEST", Region::State("MANIFEST", 20)),
        ("state: tables", Region::State(".sst", 0)),
        ("state: gone", Region::Gone("state")),
    ];
    for (what, region) in regions {
        load.wait_for_all();
        cluster.stop(victim);
        region.damage(&data);
        cluster.start(victim);
        // What nobody reads at a start shows when it leads: it gives the lead up, and is filled then.
        let has_led = (0..3).any(|_| {
            wait_for_state(&cluster, &id(victim), "follower");
            cluster.try_cairn(&["admin", "masters", "transfer-leader", &id(victim)]);
            load.wait_for_all();
            cluster.leader() == victim
                && cluster.try_cairn(&["admin", "masters", "transfer-leader"]).status.success()
        });
        assert!(has_led, "{what}");
        load.wait_for_all();
        println!("{what}: {}", last_reason(&cluster.log(victim)));
    }
    let operations = load.finish_and_verify(&mounts);
    println!("damaged master: {operations} operations");
}

/// Two of three have lost their states and kept their journals: nobody can lead before one of them is filled, by the one that is left.
#[test]
fn two_masters_with_damaged_states_are_filled_by_the_third() {
    let (cluster, mounts) = cluster();
    let mark = mounts[0].join("mark");
    fs::write(&mark, "before").unwrap();
    MASTERS.iter().for_each(|master| cluster.kill(master));
    // Attributes of the mount would be waited for until an operation's patience ends, which is a minute.
    let told = Instant::now();
    cluster.ps();
    assert!(told.elapsed() < Duration::from_secs(30), "`dev ps` waits for a master");
    for master in &MASTERS[..2] {
        Region::State("CURRENT", 0).damage(&cluster.process(master).data_dirs[0]);
    }
    // Each is waited for until it serves.
    cluster.dev(&["up"]);
    assert_eq!(fs::read(&mark).unwrap(), b"before");
    fs::write(&mark, "after").unwrap();
    assert_eq!(fs::read(mounts[1].join("mark")).unwrap(), b"after");
    for master in &MASTERS[..2] {
        assert!(cluster.log(master).contains("a copy of the state is installed"), "{master}");
    }
}

/// A file system of its own for one directory.
struct Small(PathBuf);

impl Small {
    fn mount(directory: &Path, mebibytes: u32) -> Self {
        let options = format!("size={mebibytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory).status();
        assert!(mounted.unwrap().success());
        Self(directory.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Also while the master has files open in it.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_costs_a_leader_the_lead_and_the_cluster_nothing() {
    let (cluster, mounts) = cluster();
    let full = standby(&cluster);
    cluster.stop(full);
    let data = cluster.process(full).data_dirs[0].clone();
    let aside = data.with_extension("aside");
    fs::rename(&data, &aside).unwrap();
    fs::create_dir(&data).unwrap();
    let small = Small::mount(&data, 2048);
    assert!(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&data).status().unwrap().success());
    cluster.start(full);
    cluster.cairn(&["admin", "masters", "transfer-leader", &id(full)]);
    assert_eq!(cluster.leader(), full);
    let filler = File::create(data.join("filler")).unwrap();
    let free = rustix::fs::statvfs(&data).unwrap();
    let most = free.f_bavail * free.f_frsize;
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, most - (48 << 20)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while cluster.leader() == full {
        assert!(Instant::now() < deadline, "it goes on leading");
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::write(mounts[0].join("grows"), "still").unwrap();
    assert_eq!(fs::read(mounts[1].join("grows")).unwrap(), b"still");
    assert!(cluster.log(full).contains("another master is asked to lead"));
    drop((filler, small));
}

/// Bytes of a table's first blocks.
const SPARED: u64 = 32 << 10;

#[test]
fn a_leader_whose_state_is_damaged_gives_up_the_lead() {
    let (cluster, mounts) = cluster();
    let marks = mounts[0].join("marks");
    fs::create_dir(&marks).unwrap();
    let names: Vec<PathBuf> = (0..2000).map(|number| marks.join(format!("mark-{number}"))).collect();
    names.iter().for_each(|name| fs::write(name, "x").unwrap());
    let victim = standby(&cluster);
    cluster.stop(victim);
    // Blocks of rows, and neither the first ones, which are read at the start, nor what tells where blocks are.
    for file in files_below(&cluster.process(victim).data_dirs[0].join("state")) {
        let bytes = fs::metadata(&file).unwrap().len();
        if file.extension().is_some_and(|end| end == "sst") && bytes > 4 * SPARED {
            damage(&file, SPARED, (bytes - 3 * SPARED) as usize);
        }
    }
    cluster.start(victim);
    cluster.cairn(&["admin", "masters", "transfer-leader", &id(victim)]);
    // The other mount has seen none of it.
    names.iter().for_each(|name| {
        assert_eq!(fs::read(mounts[1].join("marks").join(name.file_name().unwrap())).unwrap(), b"x")
    });
    wait_for_state(&cluster, &id(victim), "follower");
    assert!(cluster.log(victim).contains("metadata state failed"), "nobody has noticed");
    cluster.cairn(&["admin", "masters", "transfer-leader", &id(victim)]);
    assert_eq!(fs::read_dir(mounts[1].join("marks")).unwrap().count(), names.len());
}

fn last_reason(log: &str) -> String {
    let line = log.lines().rfind(|line| line.contains("must be filled") && line.contains("reason"));
    line.map_or_else(|| "nothing was lost".to_owned(), |line| line.chars().skip(28).take(160).collect())
}
