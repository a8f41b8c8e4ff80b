//! Programs that wait for a cluster that is away: they can be killed, and nothing else disturbs them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A killed program has ended after that.
const DEATH_LIMIT: Duration = Duration::from_secs(2);
/// Until a program certainly waits in the kernel.
const SETTLE: Duration = Duration::from_millis(700);
/// Bytes of a file that nobody has in memory.
const FILE_BYTES: usize = 1 << 20;

/// A program that says `ready` before it does what may wait. `path` is its own file.
struct Program {
    child: Child,
    name: &'static str,
}

impl Program {
    fn start(name: &'static str, script: &str, path: &Path) -> Self {
        let head = "import ctypes, mmap, os, signal, sys, threading, time\npath = sys.argv[1]\n\
                    def ready(): print('ready', flush=True)\n";
        let mut command = Command::new("python3");
        command.arg("-c").arg(format!("{head}{script}")).arg(path);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said.trim(), "ready", "{name}");
        Self { child, name }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it waits still.
    fn waits(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    #[track_caller]
    fn dies_of(&mut self, signal: Signal) {
        assert!(self.waits(), "{} did not wait: the test is broken", self.name);
        let since = Instant::now();
        self.signal(signal);
        assert!(self.ends_within(DEATH_LIMIT).is_some(), "{} outlives {signal:?}", self.name);
        println!("{}: {signal:?}, gone after {:?}", self.name, since.elapsed());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What has outlived a test ends when its mount is gone.
        drop(self.child.kill());
    }
}

/// What a program does, and what it does before that.
struct Deed {
    name: &'static str,
    script: &'static str,
}

/// They wait for a page that read-ahead brings: there Linux lets signals that leave a core dump wait.
const OF_PAGES: [&str; 2] = ["read", "page fault"];

/// Those that wait for bytes.
const OF_BYTES: [Deed; 7] = [
    Deed { name: "read", script: "f = os.open(path, os.O_RDONLY)\nready()\nos.read(f, 4096)" },
    Deed {
        name: "read past the page cache",
        script: "f = os.open(path, os.O_RDONLY | os.O_DIRECT)\nb = mmap.mmap(-1, 65536)\nready()\nos.readv(f, [b])",
    },
    Deed {
        name: "page fault",
        script: "f = os.open(path, os.O_RDONLY)\nm = mmap.mmap(f, 4096, prot=mmap.PROT_READ)\nready()\nm[0]",
    },
    Deed {
        name: "fsync",
        script: "f = os.open(path + '.new', os.O_RDWR | os.O_CREAT)\nready()\nos.write(f, b'x' * 4096)\nos.fsync(f)",
    },
    Deed {
        name: "close",
        script: "f = os.open(path + '.new', os.O_RDWR | os.O_CREAT)\nready()\nos.write(f, b'x' * 4096)\nos.close(f)",
    },
    // It closes the file on the way; until then its /proc/PID/stat cannot be read.
    Deed {
        name: "exec",
        script: "f = os.open(path + '.new', os.O_RDWR | os.O_CREAT)\nready()\nos.write(f, b'x' * 4096)\nos.execv('/bin/true', ['true'])",
    },
    Deed {
        name: "write",
        script: "f = os.open(path + '.new', os.O_RDWR | os.O_CREAT)\nready()\nwhile True: os.write(f, b'x' * 1048576)",
    },
];

/// Those that wait for names.
const OF_NAMES: [Deed; 6] = [
    Deed { name: "stat", script: "ready()\nos.stat(path + '.none')" },
    Deed { name: "list", script: "ready()\nos.listdir(os.path.dirname(path))" },
    Deed { name: "open", script: "ready()\nos.open(path + '.other', os.O_RDONLY)" },
    Deed { name: "create", script: "ready()\nos.open(path + '.made', os.O_RDWR | os.O_CREAT)" },
    Deed {
        name: "rename",
        script: "f = os.open(path, os.O_RDONLY)\nready()\nos.rename(path, path + '.moved')",
    },
    Deed { name: "chmod", script: "f = os.open(path, os.O_RDONLY)\nready()\nos.fchmod(f, 0o600)" },
];

/// A file for each, each in a folder of its own: the kernel lets one program at a time change a folder.
fn files(top: &Path, deeds: &[Deed], signal: Signal) -> Vec<PathBuf> {
    let file = |number: usize| {
        let folder = top.join(format!("{signal:?}-{number}"));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("file");
        fs::write(&path, bytes(number as u64, FILE_BYTES)).unwrap();
        path
    };
    (0..deeds.len()).map(file).collect()
}

fn chunkservers(cluster: &Cluster) -> Vec<String> {
    let names = cluster.ps().into_iter().map(|process| process.name);
    names.filter(|name| name.starts_with("chunkserver-")).collect()
}

/// Processes that are stopped, and go on when this is dropped.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn these(cluster: &Cluster, names: &[String]) -> Self {
        let pids = names.iter().map(|name| Pid::from_raw(cluster.process(name).pid.unwrap()).unwrap());
        let frozen = Self(pids.collect());
        frozen.0.iter().for_each(|&pid| kill_process(pid, Signal::STOP).unwrap());
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // A test that has failed may have ended them.
        for &pid in &self.0 {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

/// The mount, made anew with these options, hence with empty caches.
struct Mount {
    daemon: Child,
    point: PathBuf,
}

impl Mount {
    fn new(cluster: &Cluster, name: &str, options: &str) -> Self {
        let point = cluster.root().join(name);
        fs::create_dir_all(&point).unwrap();
        let mut command = Command::new(cairn_tests::cluster::cairn_binary());
        command.args(["mount", &cluster.masters()]).arg(&point).args(["--foreground", "-o", options]);
        let log = fs::File::create(cluster.root().join(format!("{name}.log"))).unwrap();
        let daemon = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mount = Self { daemon, point };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !mount.is_mounted() {
            assert!(Instant::now() < deadline, "it is not mounted");
            std::thread::sleep(Duration::from_millis(20));
        }
        mount
    }

    fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.contains(&format!(" {} ", self.point.display()))
    }

    /// It ends in order, and leaves no mount.
    fn end(mut self) {
        kill_process(Pid::from_child(&self.daemon), Signal::TERM).unwrap();
        let status = self.daemon.wait().unwrap();
        assert!(status.success() && !self.is_mounted(), "{status}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted() {
            drop(Command::new("umount").arg("-l").arg(&self.point).output());
            drop(self.daemon.kill());
            drop(self.daemon.wait());
        }
    }
}

/// Everything that waits while `away` are frozen can be killed; afterwards the mount works, for the same files as well.
fn everything_can_be_killed(
    deeds: &[Deed],
    options: &str,
    masters: u32,
    away: impl Fn(&Cluster) -> Vec<String>,
) {
    let cluster = Cluster::up(ClusterOptions { masters, ..ClusterOptions::default() });
    let signals = [Signal::KILL, Signal::TERM, Signal::INT, Signal::QUIT];
    let paths: Vec<_> = signals.iter().map(|signal| files(&cluster.mount(), deeds, *signal)).collect();
    let mount = Mount::new(&cluster, "mnt-wait", options);
    let own = |path: &Path| mount.point.join(path.strip_prefix(cluster.mount()).unwrap());
    // What comes before `ready` may need the servers: all say it before these go.
    let go = cluster.root().join("go");
    let held = |deed: &Deed| {
        let wait = format!("ready()\nwhile not os.path.exists({go:?}): time.sleep(0.01)\n");
        // The default of an interactive shell's child, whatever the test was started with.
        format!("signal.signal(signal.SIGINT, signal.SIG_DFL)\n{}", deed.script.replace("ready()\n", &wait))
    };
    let mut programs = Vec::new();
    for (signal, paths) in signals.iter().zip(&paths) {
        let refused = |deed: &Deed| *signal == Signal::QUIT && OF_PAGES.contains(&deed.name);
        for (deed, path) in deeds.iter().zip(paths).filter(|(deed, _)| !refused(deed)) {
            programs.push((*signal, Program::start(deed.name, &held(deed), &own(path))));
        }
    }
    let frozen = Frozen::these(&cluster, &away(&cluster));
    fs::write(&go, b"").unwrap();
    std::thread::sleep(SETTLE * 3);
    for (signal, program) in &mut programs {
        program.dies_of(*signal);
    }
    drop(frozen);
    for path in paths.iter().flatten() {
        let number = path.parent().unwrap().to_string_lossy().rsplit('-').next().unwrap().parse().unwrap();
        let (path, moved) = (own(path), own(path).with_extension("moved"));
        let path = if moved.exists() { moved } else { path };
        assert!(fs::read(&path).unwrap() == bytes(number, FILE_BYTES), "{}", path.display());
        let beside = path.with_extension("later");
        fs::write(&beside, b"later").unwrap();
        assert_eq!(fs::read(&beside).unwrap(), b"later");
    }
    mount.end();
}

#[test]
fn what_waits_for_bytes_can_be_killed() {
    everything_can_be_killed(&OF_BYTES, "unavailable=wait", 1, chunkservers);
}

#[test]
fn what_waits_for_bytes_with_a_limit_can_be_killed() {
    everything_can_be_killed(&OF_BYTES[..4], "unavailable=600", 1, chunkservers);
}

#[test]
fn what_waits_for_a_master_can_be_killed() {
    everything_can_be_killed(&OF_NAMES, "unavailable=wait,timeout=600", 1, |_| vec!["master-1".to_owned()]);
}

/// Timers, children that end, stops and goes: a file is read as if nothing had happened.
#[test]
fn signals_that_kill_nobody_disturb_nothing() {
    let cluster = Cluster::up(ClusterOptions::default());
    let path = cluster.mount().join("file");
    fs::write(&path, bytes(7, FILE_BYTES)).unwrap();
    cluster.remount();
    // No interpreter between the signal and the call: python would repeat what is interrupted.
    let read = "libc = ctypes.CDLL(None, use_errno=True)\nsignal.signal(signal.SIGALRM, lambda *_: None)\n\
                signal.signal(signal.SIGCHLD, lambda *_: None)\nf = os.open(path, os.O_RDONLY | FLAG)\n\
                m = mmap.mmap(-1, 4096)\nb = (ctypes.c_char * 4096).from_buffer(m)\nready()\n\
                n = libc.read(f, b, 4096)\nsys.exit(0 if n == 4096 else 100 + ctypes.get_errno())";
    let past_the_cache = read.replace("FLAG", "os.O_DIRECT");
    let mut programs = Vec::new();
    let frozen = Frozen::these(&cluster, &chunkservers(&cluster));
    for script in [&past_the_cache, &read.replace("FLAG", "0")] {
        for name in ["SIGALRM", "SIGCHLD", "SIGSTOP and SIGCONT"] {
            programs.push(Program::start(name, script, &path));
        }
    }
    std::thread::sleep(SETTLE);
    for _ in 0..3 {
        for three in programs.chunks(3) {
            three[0].signal(Signal::ALARM);
            three[1].signal(Signal::CHILD);
            three[2].signal(Signal::STOP);
        }
        std::thread::sleep(SETTLE / 4);
        programs.iter().for_each(|program| program.signal(Signal::CONT));
    }
    std::thread::sleep(SETTLE);
    for program in &mut programs {
        assert!(program.waits(), "{} ended the read", program.name);
    }
    // Whoever was signalled so can be killed as well, although the kernel does not say so a second time.
    let mut doomed = Program::start("SIGALRM, then SIGTERM", &past_the_cache, &path);
    std::thread::sleep(SETTLE);
    doomed.signal(Signal::ALARM);
    std::thread::sleep(SETTLE);
    doomed.dies_of(Signal::TERM);
    drop(frozen);
    for program in &mut programs {
        let status = program.ends_within(Duration::from_secs(30)).expect(program.name);
        assert!(status.success(), "{}: {status}", program.name);
    }
}

/// A program of several threads, of which one waits.
#[test]
fn a_thread_that_waits_does_not_keep_its_program() {
    let cluster = Cluster::up(ClusterOptions::default());
    let path = cluster.mount().join("file");
    fs::write(&path, bytes(7, FILE_BYTES)).unwrap();
    cluster.remount();
    let threads = "f = os.open(path, os.O_RDONLY | os.O_DIRECT)\nb = mmap.mmap(-1, 65536)\n\
                   t = threading.Thread(target=lambda: os.readv(f, [b]), daemon=True)\n\
                   t.start()\nready()\ntime.sleep(1)\n";
    let frozen = Frozen::these(&cluster, &chunkservers(&cluster));
    let mut exits = Program::start("exit of another thread", &format!("{threads}os._exit(3)"), &path);
    let mut dies = Program::start("death of all threads", &format!("{threads}time.sleep(600)"), &path);
    let status = exits.ends_within(Duration::from_secs(1) + DEATH_LIMIT).expect("it has ended");
    assert_eq!(status.code(), Some(3));
    dies.dies_of(Signal::KILL);
    drop(frozen);
    assert!(fs::read(&path).unwrap() == bytes(7, FILE_BYTES));
}

/// Bytes of a write that was killed before they were accepted never come, and overtake nobody's.
#[test]
fn a_killed_write_does_not_come_later() {
    let cluster = Cluster::up(ClusterOptions::default());
    let path = cluster.mount().join("file");
    fs::write(&path, b"").unwrap();
    cluster.remount();
    let write = "f = os.open(path, os.O_RDWR)\nready()\nos.write(f, b'old')";
    let frozen = Frozen::these(&cluster, &["master-1".to_owned()]);
    let mut killed = Program::start("write", write, &path);
    std::thread::sleep(SETTLE);
    killed.dies_of(Signal::KILL);
    drop(frozen);
    fs::write(&path, b"new and longer").unwrap();
    std::thread::sleep(SETTLE);
    assert_eq!(fs::read(&path).unwrap(), b"new and longer");
}
