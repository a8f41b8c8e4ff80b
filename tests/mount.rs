//! The mounted file system: what docs/SEMANTICS.md promises, through the kernel.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::bytes;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn python(script: &str, argument: &Path) {
    let output = Command::new("python3").args(["-c", script]).arg(argument).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn names_links_and_attributes() {
    let cluster = Cluster::up(ClusterOptions::default());
    let top = cluster.mount();

    let longest = OsStr::from_bytes(&[0xfe; 255]);
    fs::write(top.join(longest), b"x").unwrap();
    assert_eq!(fs::read(top.join(longest)).unwrap(), b"x");
    let too_long = "n".repeat(256);
    assert_eq!(fs::write(top.join(&too_long), b"x").unwrap_err().kind(), ErrorKind::InvalidFilename);

    fs::write(top.join("a"), b"12345").unwrap();
    fs::hard_link(top.join("a"), top.join("b")).unwrap();
    assert_eq!(fs::metadata(top.join("b")).unwrap().nlink(), 2);
    symlink("a", top.join("s")).unwrap();
    assert_eq!(fs::read(top.join("s")).unwrap(), b"12345");
    fs::rename(top.join("a"), top.join("c")).unwrap();
    assert_eq!(fs::read(top.join("s")).unwrap_err().kind(), ErrorKind::NotFound);
    fs::remove_file(top.join("b")).unwrap();
    assert_eq!(fs::metadata(top.join("c")).unwrap().nlink(), 1);

    fs::create_dir(top.join("d")).unwrap();
    fs::write(top.join("d/x"), b"").unwrap();
    assert_eq!(fs::remove_dir(top.join("d")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    assert_eq!(fs::rename(top.join("d"), top.join("d/y")).unwrap_err().kind(), ErrorKind::InvalidInput);
    fs::remove_file(top.join("d/x")).unwrap();
    fs::remove_dir(top.join("d")).unwrap();

    fs::set_permissions(top.join("c"), fs::Permissions::from_mode(0o4711)).unwrap();
    assert_eq!(fs::metadata(top.join("c")).unwrap().mode() & 0o7777, 0o4711);
    let file = File::options().write(true).open(top.join("c")).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    file.set_modified(then).unwrap();
    drop(file);
    let metadata = fs::metadata(top.join("c")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_000, 123_456_789));

    let before = cluster.mount().metadata().unwrap().mtime_nsec();
    fs::write(top.join("another"), b"").unwrap();
    assert_ne!(
        cluster.mount().metadata().unwrap().mtime_nsec(),
        before,
        "a new name changes the directory's mtime"
    );
}

#[test]
fn times_set_on_a_file_outlive_what_was_written_before() {
    let mut cluster = Cluster::up(ClusterOptions::default());
    let (here, there) = (cluster.mount(), cluster.second_mount());
    let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    // Small, and of several frames; as tar and cp -p do it.
    for bytes in [vec![7; 10_000], vec![9; 3 << 20]] {
        let mut file = File::create(here.join("dated")).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_modified(then).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        drop(file);
        for side in [&here, &there] {
            let metadata = fs::metadata(side.join("dated")).unwrap();
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_000, 123_456_789));
            assert_eq!((metadata.len(), metadata.mode() & 0o7777), (bytes.len() as u64, 0o640));
            assert_eq!(fs::read(side.join("dated")).unwrap(), bytes);
        }
    }
    // What is written afterwards moves the time again.
    let mut file = File::options().append(true).open(here.join("dated")).unwrap();
    file.set_modified(then).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    assert!(fs::metadata(there.join("dated")).unwrap().mtime() > 1_000_000_000);
}

#[test]
fn renames_with_flags_and_special_files() {
    let cluster = Cluster::up(ClusterOptions::default());
    let top = cluster.mount();
    fs::write(top.join("a"), b"a").unwrap();
    fs::write(top.join("b"), b"b").unwrap();
    let rename = |flags| {
        rustix::fs::renameat_with(rustix::fs::CWD, top.join("a"), rustix::fs::CWD, top.join("b"), flags)
    };
    assert_eq!(rename(rustix::fs::RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    rename(rustix::fs::RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(top.join("a")).unwrap(), b"b");
    assert_eq!(fs::read(top.join("b")).unwrap(), b"a");

    python(
        "import os,stat,sys,socket\nt=sys.argv[1]\nos.mkfifo(t+'/fifo')\n\
         assert stat.S_ISFIFO(os.stat(t+'/fifo').st_mode)\n\
         s=socket.socket(socket.AF_UNIX);s.bind(t+'/sock')\n\
         assert stat.S_ISSOCK(os.stat(t+'/sock').st_mode)\n\
         os.mknod(t+'/dev',stat.S_IFCHR|0o600,os.makedev(240,7))\n\
         assert os.stat(t+'/dev').st_rdev==os.makedev(240,7)",
        &top,
    );
}

#[test]
fn contents_sparse_files_and_truncation() {
    let cluster = Cluster::up(ClusterOptions::default());
    let top = cluster.mount();
    let path = top.join("big");
    let contents = bytes(1, 70 << 20);
    fs::write(&path, &contents).unwrap();
    assert!(fs::read(&path).unwrap() == contents);
    cluster.remount();
    assert!(fs::read(&path).unwrap() == contents, "after a remount");

    let file = File::options().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"middle", 67_108_861).unwrap();
    let mut got = [0; 8];
    file.read_exact_at(&mut got, 67_108_860).unwrap();
    assert_eq!(&got[1..7], b"middle");
    file.set_len(100).unwrap();
    file.set_len(200).unwrap();
    let mut tail = [1; 100];
    file.read_exact_at(&mut tail, 100).unwrap();
    assert_eq!(tail, [0; 100], "what was cut off reads as zeros when the file grows again");
    drop(file);

    let sparse =
        File::options().read(true).write(true).create(true).truncate(true).open(top.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"end", (1 << 40) - 3).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.sync_all().unwrap();
    assert_eq!(sparse.metadata().unwrap().len(), 1 << 40);
    assert!(sparse.metadata().unwrap().blocks() < 1000);
    let mut got = [9; 4096];
    sparse.read_exact_at(&mut got, 1 << 39).unwrap();
    assert_eq!(got, [0; 4096]);
    let data = seek(&sparse, SeekFrom::Data(5)).unwrap();
    assert!(data > 1 << 39 && data <= (1 << 40) - 3, "SEEK_DATA found {data}");
    assert_eq!(seek(&sparse, SeekFrom::Data((1 << 40) + 1)), Err(rustix::io::Errno::NXIO));
    assert!(seek(&sparse, SeekFrom::Hole(0)).unwrap() <= 4096);
}

#[test]
fn fallocate_in_all_its_modes() {
    let cluster = Cluster::up(ClusterOptions::default());
    let path = cluster.mount().join("f");
    fs::write(&path, vec![7; 20_000]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE, 5_000, 5_000).unwrap();
    let mut expected = vec![7; 20_000];
    expected[5_000..10_000].fill(0);
    assert!(fs::read(&path).unwrap() == expected);
    fallocate(&file, FallocateFlags::ZERO_RANGE, 19_000, 2_000).unwrap();
    expected[19_000..].fill(0);
    expected.resize(21_000, 0);
    assert!(fs::read(&path).unwrap() == expected);
    fallocate(&file, FallocateFlags::empty(), 0, 30_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 30_000);
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 60_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 30_000);
    let unsupported = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(unsupported, Err(rustix::io::Errno::OPNOTSUPP));
}

#[test]
fn mappings_appends_and_locks() {
    let cluster = Cluster::up(ClusterOptions::default());
    let top = cluster.mount();
    python(
        "import mmap,os,sys\np=sys.argv[1]+'/m'\nf=open(p,'w+b');f.truncate(3*4096+17)\n\
         m=mmap.mmap(f.fileno(),0);m[4090:4100]=b'0123456789';m.flush()\n\
         assert os.pread(f.fileno(),10,4090)==b'0123456789'\n\
         os.pwrite(f.fileno(),b'XY',4092);assert m[4090:4096]==b'01XY45',m[4090:4096]\n\
         q=mmap.mmap(f.fileno(),0,mmap.MAP_PRIVATE);q[0:3]=b'abc';assert os.pread(f.fileno(),3,0)==bytes(3)\n\
         m[12300:12305]=b'tail!';m.close();f.close()\n\
         assert open(p,'rb').read()[12300:]==b'tail!'",
        &top,
    );
    cluster.remount();
    assert_eq!(&fs::read(top.join("m")).unwrap()[12300..], b"tail!");

    let path = top.join("log");
    fs::write(&path, b"").unwrap();
    let children: Vec<_> = (0..4)
        .map(|child| {
            let script = "import os,sys\nfd=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND)\n\
                          for i in range(200): os.write(fd,(sys.argv[2]*63+'\\n').encode())";
            Command::new("python3").args(["-c", script]).arg(&path).arg(child.to_string()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 800, "no append is lost or torn");
    assert!(text.lines().all(|line| line.len() == 63 && line.bytes().all(|byte| byte == line.as_bytes()[0])));

    python(
        "import fcntl,os,sys\np=sys.argv[1]+'/lock'\na=open(p,'w');b=open(p,'w')\nfcntl.flock(a,fcntl.LOCK_EX)\n\
         try:\n  fcntl.flock(b,fcntl.LOCK_EX|fcntl.LOCK_NB);raise SystemExit('flock is not exclusive')\n\
         except BlockingIOError: pass\n\
         fcntl.flock(a,fcntl.LOCK_UN);fcntl.flock(b,fcntl.LOCK_EX|fcntl.LOCK_NB)\n\
         fcntl.lockf(a,fcntl.LOCK_EX|fcntl.LOCK_NB,10,5)\n\
         pid=os.fork()\n\
         if pid==0:\n  c=open(p,'w')\n  try:\n    fcntl.lockf(c,fcntl.LOCK_EX|fcntl.LOCK_NB,1,7);os._exit(1)\n\
           \n  except BlockingIOError: os._exit(0)\n\
         assert os.waitpid(pid,0)[1]==0,'fcntl lock is not exclusive'",
        &top,
    );
}

#[test]
fn open_files_outlive_their_names() {
    let cluster = Cluster::up(ClusterOptions::default());
    let path = cluster.mount().join("gone");
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all(b" and after").unwrap();
    file.sync_all().unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before and after");
    assert_eq!(file.metadata().unwrap().nlink(), 0);

    let kept = File::open({
        fs::write(cluster.mount().join("replaced"), vec![1; 100_000]).unwrap();
        cluster.mount().join("replaced")
    })
    .unwrap();
    fs::write(cluster.mount().join("new"), b"new").unwrap();
    fs::rename(cluster.mount().join("new"), cluster.mount().join("replaced")).unwrap();
    let mut old = vec![0; 100_000];
    kept.read_exact_at(&mut old, 0).unwrap();
    assert!(old.iter().all(|&byte| byte == 1));
    assert_eq!(fs::read(cluster.mount().join("replaced")).unwrap(), b"new");
}

#[test]
fn extended_attributes() {
    let cluster = Cluster::up(ClusterOptions::default());
    python(
        "import os,sys,errno\np=sys.argv[1]+'/x';open(p,'w').close()\n\
         os.setxattr(p,'user.a',b'1');os.setxattr(p,'trusted.t',b'2'*1000);os.setxattr(p,'user.empty',b'')\n\
         assert sorted(os.listxattr(p))==['trusted.t','user.a','user.empty']\n\
         assert os.getxattr(p,'trusted.t')==b'2'*1000\n\
         for f,e in ((lambda: os.setxattr(p,'user.a',b'3',os.XATTR_CREATE),errno.EEXIST),\
                     (lambda: os.setxattr(p,'user.n',b'3',os.XATTR_REPLACE),errno.ENODATA),\
                     (lambda: os.getxattr(p,'user.none'),errno.ENODATA),\
                     (lambda: os.removexattr(p,'user.none'),errno.ENODATA)):\n\
           \n  try: f()\n  except OSError as x: assert x.errno==e,(x,e)\n  else: raise SystemExit('no error')\n\
         os.removexattr(p,'user.a');assert 'user.a' not in os.listxattr(p)",
        &cluster.mount(),
    );
}

#[test]
fn directories_are_listed_exactly_once_while_they_change() {
    let mut cluster = Cluster::up(ClusterOptions::default());
    let top = cluster.mount().join("d");
    fs::create_dir(&top).unwrap();
    let count = 12_000;
    for number in 0..count {
        File::create(top.join(format!("stays-{number:05}"))).unwrap();
    }
    let mut seen = BTreeSet::new();
    for (number, entry) in fs::read_dir(&top).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if number % 100 == 0 {
            File::create(top.join(format!("new-{number}"))).unwrap();
        }
        if name.starts_with("stays") {
            assert!(seen.insert(name.clone()), "{name} came twice");
        }
    }
    assert_eq!(seen.len(), count);

    // As `ls -l` does it, from a mount that knows nothing of it yet.
    let elsewhere = cluster.second_mount().join("d");
    let listed = |looks: bool| {
        let names = fs::read_dir(&elsewhere).unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert!(!looks || entry.metadata().unwrap().is_file());
            entry.file_name()
        });
        names.collect::<Vec<_>>()
    };
    let here: Vec<_> = fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(listed(true), here);
    assert_eq!(listed(false), here);
    fs::remove_dir_all(&top).unwrap();
}

#[test]
fn two_mounts_agree_on_what_was_closed_or_synced() {
    let mut cluster = Cluster::up(ClusterOptions::default());
    let (a, b) = (cluster.mount(), cluster.second_mount());
    for round in 0..50 {
        let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        fs::write(from.join("shared"), format!("round {round}")).unwrap();
        assert_eq!(fs::read_to_string(to.join("shared")).unwrap(), format!("round {round}"));
        assert_eq!(
            fs::metadata(to.join("shared")).unwrap().len(),
            fs::metadata(from.join("shared")).unwrap().len()
        );
    }
    let mut synced = File::create(a.join("synced")).unwrap();
    synced.write_all(&bytes(3, 100_000)).unwrap();
    synced.sync_all().unwrap();
    assert!(fs::read(b.join("synced")).unwrap() == bytes(3, 100_000), "synced but still open");

    // A reader with cached pages sees what another mount has written since, once it opens again.
    assert!(fs::read(b.join("synced")).unwrap() == bytes(3, 100_000));
    synced.write_all_at(b"changed", 50_000).unwrap();
    drop(synced);
    assert_eq!(&fs::read(b.join("synced")).unwrap()[50_000..50_007], b"changed");

    let open = |mount: &Path| OpenOptions::new().append(true).create(true).open(mount.join("log")).unwrap();
    let (mut on_a, mut on_b) = (open(&a), open(&b));
    for _ in 0..20 {
        on_a.write_all(b"aaaa\n").unwrap();
        on_a.sync_all().unwrap();
        on_b.write_all(b"bbbb\n").unwrap();
        on_b.sync_all().unwrap();
    }
    let text = fs::read_to_string(a.join("log")).unwrap();
    assert_eq!(text.lines().filter(|line| *line == "aaaa").count(), 20);
    assert_eq!(text.lines().filter(|line| *line == "bbbb").count(), 20);

    fs::rename(a.join("log"), a.join("moved")).unwrap();
    assert!(!b.join("log").exists() && b.join("moved").exists());
    fs::remove_file(b.join("moved")).unwrap();
    assert!(!a.join("moved").exists());
}

#[test]
fn a_dead_mount_is_cleared_and_started_again() {
    let cluster = Cluster::up(ClusterOptions::default());
    fs::write(cluster.mount().join("f"), b"kept").unwrap();
    // The kernel may keep these for a while.
    fs::metadata(cluster.mount()).unwrap();
    cluster.kill("mount");
    assert_eq!(cluster.process("mount").state, "dead");
    cluster.start("mount");
    assert_eq!(fs::read(cluster.mount().join("f")).unwrap(), b"kept");
    assert_eq!(cluster.process("mount").state, "running");
}

#[test]
fn a_program_that_runs_is_not_emptied() {
    use rustix::fs::{Mode, OFlags, open};
    let cluster = Cluster::up(ClusterOptions::default());
    let program = cluster.mount().join("program");
    let busy = rustix::io::Errno::TXTBSY;
    for _ in 0..20 {
        fs::copy("/bin/sleep", &program).unwrap();
        let start = || Command::new(&program).arg("60").spawn();
        // A child that another test just forks still holds what was written.
        let is_busy = |error: &std::io::Error| error.kind() == ErrorKind::ExecutableFileBusy;
        let mut child = start();
        for _ in 0..100 {
            if !child.as_ref().is_err_and(is_busy) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            child = start();
        }
        let mut child = child.unwrap();
        for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC] {
            assert_eq!(open(&program, flags, Mode::empty()).err(), Some(busy), "{flags:?}");
        }
        assert!(child.try_wait().unwrap().is_none(), "the program goes on");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(fs::read(&program).unwrap() == fs::read("/bin/sleep").unwrap());
        drop(open(&program, OFlags::RDONLY | OFlags::TRUNC, Mode::empty()).unwrap());
        assert_eq!(fs::metadata(&program).unwrap().len(), 0);
        fs::remove_file(&program).unwrap();
    }
}

#[test]
fn leases_of_files_that_were_closed_twice_go_back() {
    let cluster = Cluster::up(ClusterOptions::default());
    let name = |n: usize| cluster.mount().join(format!("f{n}"));
    // Each close leaves the idle lease once more: far more than are kept.
    for n in 0..700 {
        drop(File::create_new(name(n)).unwrap());
        drop(OpenOptions::new().write(true).open(name(n)).unwrap());
    }
    let (done, finished) = std::sync::mpsc::channel();
    let names: Vec<_> = (0..700).map(name).collect();
    std::thread::spawn(move || {
        names.iter().for_each(|name| fs::write(name, b"written").unwrap());
        done.send(names).unwrap();
    });
    let names = finished.recv_timeout(Duration::from_secs(60)).expect("no write waits for ever");
    cluster.remount();
    assert!(names.iter().all(|name| fs::read(name).unwrap() == b"written"));
}

/// Not root: `fusermount3` mounts, and passes the device. In a namespace of its own, with a device that everybody may open.
#[test]
fn an_ordinary_user_mounts_for_himself() {
    const SCRIPT: &str = r#"
        set -e
        top=$1 cairn=$2 masters=$3
        mkdir $top/user && mount -t tmpfs -o mode=755 none $top/user && cd $top/user
        mknod device c 10 229 && chmod 666 device && mount --bind device /dev/fuse
        touch cairn && mount --bind $cairn cairn
        mkdir point && chown 65534:65534 point
        as_user="setpriv --reuid 65534 --regid 65534 --clear-groups"
        $as_user ./cairn mount $masters $top/user/point --foreground &
        daemon=$!
        for i in $(seq 200); do grep -q " $top/user/point " /proc/self/mountinfo && break; sleep 0.1; done
        grep -o "fuse.cairn.*user_id=65534.*default_permissions" /proc/self/mountinfo
        $as_user sh -c 'cat point/shared/theirs && echo mine > point/shared/mine'
        ls point > /dev/null 2>&1 && echo "root enters"
        kill -TERM $daemon && wait $daemon
        grep -q " $top/user/point " /proc/self/mountinfo || echo "gone"
    "#;
    let cluster = Cluster::up(ClusterOptions::default());
    let shared = cluster.mount().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(shared.join("theirs"), b"theirs\n").unwrap();
    fs::set_permissions(cluster.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]).arg(cluster.root());
    let output = command.arg(cairn_tests::cluster::cairn_binary()).arg(cluster.masters()).output().unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{said}{errors}");
    assert!(
        said.contains("user_id=65534") && said.contains("theirs\n") && said.contains("gone"),
        "{said}{errors}"
    );
    assert!(!said.contains("root enters"), "{said}");
    let mine = shared.join("mine");
    assert_eq!(
        (fs::read(&mine).unwrap().as_slice(), mine.metadata().unwrap().uid()),
        (&b"mine\n"[..], 65534)
    );
}
