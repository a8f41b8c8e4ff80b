//! Messages of the device, byte by byte: what is read of each request, and what each answer consists of.

#![allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]

use super::abi::*;
use super::channel::Channel;
use super::reply::*;
use super::request::{Operation, Request, SetAttr, Unique, Write, operation};
use super::underway::Underway;
use super::wire::{Malformed, Writer};
use cairn_core::time::Timestamp;
use proptest::prelude::*;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{PipeReader, Read};
use std::sync::Arc;
use std::time::Duration;

/// A message of the kernel's.
fn message(opcode: u32, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::with_capacity(128);
    out.u32(0).u32(opcode).u64(6).u64(11).u32(1000).u32(100).u32(4321).u32(0);
    fill(&mut out);
    let mut bytes = out.finish();
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// Ends a chain.
fn done(_: &mut Writer) {}

fn parse(message: &[u8]) -> Result<Operation<'_>, Malformed> {
    operation(&Request::parse(message)?, message)
}

#[track_caller]
fn reads(opcode: u32, fill: impl FnOnce(&mut Writer), wanted: Operation<'_>) {
    let whole = message(opcode, fill);
    assert_eq!(parse(&whole), Ok(wanted));
    // Nothing is read beyond what is there, wherever that ends.
    for length in 0..whole.len() {
        let mut cut = whole[..length].to_vec();
        assert_eq!(parse(&cut), Err(Malformed), "the header says more than there is");
        if length >= IN_HEADER_BYTES {
            cut[..4].copy_from_slice(&(length as u32).to_ne_bytes());
            let cut = parse(&cut);
            assert!(cut == Err(Malformed) || cut == Ok(wanted), "cut at {length}: {cut:?}");
        }
    }
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn the_header_says_who_asks() {
    let message = message(opcode::STATFS, |_| {});
    let request = Request::parse(&message).unwrap();
    assert_eq!((request.unique(), request.node), (Unique(6), INodeNo(11)));
    assert_eq!((request.uid(), request.gid(), request.pid()), (1000, 100, 4321));
    assert_eq!(Request::parse(&message[..39]), Err(Malformed));
}

#[test]
fn requests_on_names() {
    let (a, b) = (name("a"), name("bb"));
    let put = |bytes: &'static [u8]| {
        move |out: &mut Writer| {
            out.bytes(bytes);
        }
    };
    reads(opcode::LOOKUP, put(b"a\0"), Operation::Lookup { name: a });
    reads(opcode::UNLINK, put(b"a\0"), Operation::Unlink { name: a });
    reads(opcode::RMDIR, put(b"a\0"), Operation::RmDir { name: a });
    reads(opcode::REMOVEXATTR, put(b"a\0"), Operation::RemoveXattr { name: a });
    reads(opcode::SYMLINK, put(b"a\0bb\0"), Operation::SymLink { name: a, target: b });
    let fill = |out: &mut Writer| {
        out.u32(0o100_644).u32(7).zeros(8).bytes(b"a\0");
    };
    reads(opcode::MKNOD, fill, Operation::MkNod { name: a, mode: 0o100_644, rdev: 7 });
    let fill = |out: &mut Writer| {
        out.u32(0o755).u32(0o22).bytes(b"a\0");
    };
    reads(opcode::MKDIR, fill, Operation::MkDir { name: a, mode: 0o755 });
    let fill = |out: &mut Writer| {
        out.i32(0o101).u32(0o644).zeros(8).bytes(b"a\0");
    };
    reads(opcode::CREATE, fill, Operation::Create { name: a, mode: 0o644, flags: 0o101 });
    let rename = |flags| Operation::Rename { name: a, new_parent: INodeNo(12), new_name: b, flags };
    let fill = |out: &mut Writer| {
        out.u64(12).bytes(b"a\0bb\0");
    };
    reads(opcode::RENAME, fill, rename(0));
    let fill = |out: &mut Writer| {
        out.u64(12).u32(1).u32(0).bytes(b"a\0bb\0");
    };
    reads(opcode::RENAME2, fill, rename(1));
    let fill = |out: &mut Writer| {
        out.u64(13).bytes(b"bb\0");
    };
    reads(opcode::LINK, fill, Operation::Link { inode: INodeNo(13), new_name: b });
    let fill = |out: &mut Writer| {
        out.u32(3).i32(1).bytes(b"a\0x\0y");
    };
    reads(opcode::SETXATTR, fill, Operation::SetXattr { name: a, value: b"x\0y", flags: 1 });
    let fill = |out: &mut Writer| {
        out.u32(256).u32(0).bytes(b"a\0");
    };
    reads(opcode::GETXATTR, fill, Operation::GetXattr { name: a, size: 256 });
}

#[test]
fn requests_on_what_is_open() {
    let handle = FileHandle(5);
    let reading = |out: &mut Writer| {
        out.u64(5).u64(4096).u32(512).zeros(20);
    };
    reads(opcode::READ, reading, Operation::Read { handle, offset: 4096, size: 512 });
    reads(opcode::READDIR, reading, Operation::ReadDir { handle, offset: 4096, size: 512 });
    reads(opcode::READDIRPLUS, reading, Operation::ReadDirPlus { handle, offset: 4096, size: 512 });
    let fill = |out: &mut Writer| {
        out.u64(5).u64(4096).u32(4).u32(4).u64(0).i32(0o2001).u32(0).bytes(b"data");
    };
    let (write_flags, flags) = (WriteFlags::FUSE_WRITE_KILL_SUIDGID, 0o2001);
    reads(
        opcode::WRITE,
        fill,
        Operation::Write(Write { handle, offset: 4096, data: b"data", write_flags, flags }),
    );
    let ending = |out: &mut Writer| {
        out.u64(5).zeros(16);
    };
    reads(opcode::RELEASE, ending, Operation::Release { handle });
    reads(opcode::RELEASEDIR, ending, Operation::ReleaseDir { handle });
    reads(opcode::FLUSH, ending, Operation::Flush { handle });
    let fill = |out: &mut Writer| {
        out.u64(5).u32(1).u32(0);
    };
    reads(opcode::FSYNC, fill, Operation::FSync { handle, datasync: true });
    reads(opcode::FSYNCDIR, fill, Operation::FSyncDir);
    let fill = |out: &mut Writer| {
        out.u64(5).u64(10).u64(20).i32(3).u32(0);
    };
    reads(opcode::FALLOCATE, fill, Operation::FAllocate { handle, offset: 10, length: 20, mode: 3 });
    let fill = |out: &mut Writer| {
        out.u64(5).i64(-1).i32(4).u32(0);
    };
    reads(opcode::LSEEK, fill, Operation::Lseek { handle, offset: -1, whence: 4 });
    let fill = |out: &mut Writer| {
        out.u64(5).u32(0).u32(0x5401).zeros(16);
    };
    reads(opcode::IOCTL, fill, Operation::IoCtl { unrestricted: false });
    reads(opcode::POLL, |out| done(out.zeros(24)), Operation::Poll);
    reads(opcode::COPY_FILE_RANGE, |out| done(out.zeros(56)), Operation::CopyFileRange);
}

#[test]
fn requests_on_inodes() {
    let fill = |flags| {
        move |out: &mut Writer| {
            out.u32(flags).u32(0).u64(5);
        }
    };
    reads(opcode::GETATTR, fill(0), Operation::GetAttr { handle: None });
    reads(opcode::GETATTR, fill(1), Operation::GetAttr { handle: Some(FileHandle(5)) });
    reads(opcode::READLINK, |_| {}, Operation::ReadLink);
    reads(opcode::STATFS, |_| {}, Operation::StatFs);
    reads(opcode::FORGET, |out| done(out.u64(1)), Operation::Forget);
    reads(opcode::BATCH_FORGET, |out| done(out.zeros(24)), Operation::Forget);
    reads(opcode::OPEN, |out| done(out.i32(2).u32(0)), Operation::Open { flags: 2 });
    reads(opcode::OPENDIR, |out| done(out.i32(2).u32(0)), Operation::OpenDir);
    reads(opcode::ACCESS, |out| done(out.u32(4).u32(0)), Operation::Access { mask: 4 });
    reads(opcode::LISTXATTR, |out| done(out.u32(64).u32(0)), Operation::ListXattr { size: 64 });
    reads(opcode::INTERRUPT, |out| done(out.u64(8)), Operation::Interrupt { of: Unique(8) });
    reads(opcode::DESTROY, |_| {}, Operation::Destroy);
    // BMAP, SETLK, SYNCFS, STATX, and what is not invented yet.
    for code in [37, 32, 50, 52, 999] {
        reads(code, |out| done(out.zeros(40)), Operation::Unknown);
    }
}

#[test]
fn attributes_to_set() {
    let fill = |valid: u32| {
        move |out: &mut Writer| {
            out.u32(valid).u32(0).u64(5).u64(77).u64(0).i64(-2).i64(9).i64(0);
            out.u32(800_000_000).u32(7).u32(0).u32(0o640).u32(0).u32(1).u32(2).u32(0);
        }
    };
    let none =
        SetAttr { mode: None, uid: None, gid: None, size: None, atime: None, mtime: None, handle: None };
    reads(opcode::SETATTR, fill(0), Operation::SetAttr(none));
    let all = SetAttr {
        mode: Some(0o640),
        uid: Some(1),
        gid: Some(2),
        size: Some(77),
        atime: Some(TimeOrNow::At(Timestamp { seconds: -2, nanos: 800_000_000 })),
        mtime: Some(TimeOrNow::At(Timestamp { seconds: 9, nanos: 7 })),
        handle: Some(FileHandle(5)),
    };
    reads(opcode::SETATTR, fill(0x7f), Operation::SetAttr(all));
    let now = SetAttr { atime: Some(TimeOrNow::Now), mtime: Some(TimeOrNow::Now), ..none };
    reads(opcode::SETATTR, fill(0x30 | 0x180), Operation::SetAttr(now));
}

#[test]
fn offsets_beyond_any_file_are_refused() {
    let read = message(opcode::READ, |out| done(out.u64(5).u64(1 << 63).u32(1).zeros(20)));
    assert_eq!(parse(&read), Err(Malformed));
    let lies = message(opcode::WRITE, |out| done(out.u64(5).u64(0).u32(9).zeros(20).bytes(b"data")));
    assert_eq!(parse(&lies), Err(Malformed), "it has not the nine bytes that it says");
}

proptest! {
    #[test]
    fn no_message_is_too_strange(opcode in 0_u32..64, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = message(opcode, |out| done(out.bytes(&body)));
        let _ = parse(&whole);
        let _ = parse(&body);
    }
}

/// A reply that leaves into a pipe.
fn reply() -> (Reply, Arc<Underway>, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let underway = Arc::new(Underway::default());
    underway.begin(Unique(6), 4321, 0, false);
    let port = Port { channel: Arc::new(Channel::new(writer.into())), number: 0, underway: underway.clone() };
    (Reply::new(port, Unique(6), true), underway, reader)
}

/// The body of what is sent, behind a header without an error.
fn sent(send: impl FnOnce(Reply)) -> Vec<u8> {
    let (reply, underway, mut reader) = reply();
    send(reply);
    assert!(!underway.end(Unique(6)), "it is answered");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes[..4], (bytes.len() as u32).to_ne_bytes());
    assert_eq!(bytes[4..16], [0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
    bytes.split_off(16)
}

fn attr() -> FileAttr {
    let time = |seconds, nanos| Timestamp { seconds, nanos };
    FileAttr {
        ino: INodeNo(0x11),
        size: 0x22,
        blocks: 0x33,
        atime: time(-1, 5),
        mtime: time(0x66, 6),
        ctime: time(0x77, 7),
        kind: FileType::RegularFile,
        perm: 0o644,
        nlink: 0x55,
        uid: 0x88,
        gid: 0x99,
        rdev: 0xaa,
        blksize: 0xbb,
    }
}

fn attr_bytes() -> Vec<u8> {
    let mut out = Writer::with_capacity(88);
    out.u64(0x11).u64(0x22).u64(0x33).i64(-1).u64(0x66).u64(0x77).u32(5).u32(6).u32(7);
    out.u32(0o100_644).u32(0x55).u32(0x88).u32(0x99).u32(0xaa).u32(0xbb).u32(0);
    let bytes = out.finish();
    assert_eq!(bytes.len(), 88);
    bytes
}

fn entry_bytes(inode: u64, entry: (u64, u32), attr: (u64, u32)) -> Vec<u8> {
    let mut out = Writer::with_capacity(128);
    out.u64(inode).u64(0).u64(entry.0).u64(attr.0).u32(entry.1).u32(attr.1).bytes(&attr_bytes());
    out.finish()
}

#[test]
fn short_answers() {
    assert_eq!(sent(|reply| ReplyEmpty::from(reply).ok()), b"");
    assert_eq!(sent(|reply| ReplyData::from(reply).data(b"bytes")), b"bytes");
    assert_eq!(sent(|reply| ReplyXattr::from(reply).data(b"value")), b"value");
    let pair = |low: u32| [low.to_ne_bytes(), [0; 4]].concat();
    assert_eq!(sent(|reply| ReplyXattr::from(reply).size(9)), pair(9));
    assert_eq!(sent(|reply| ReplyWrite::from(reply).written(1 << 20)), pair(1 << 20));
    assert_eq!(sent(|reply| ReplyLseek::from(reply).offset(-3)), (-3_i64).to_ne_bytes());
    let stats = Statfs {
        blocks: 1,
        free: 2,
        available: 3,
        inodes: 4,
        free_inodes: 5,
        block_bytes: 6,
        name_bytes_max: 7,
    };
    let mut out = Writer::with_capacity(80);
    out.u64(1).u64(2).u64(3).u64(4).u64(5).u32(6).u32(7).u32(6).zeros(28);
    assert_eq!(sent(|reply| ReplyStatfs::from(reply).statfs(&stats)), out.finish());
}

#[test]
fn answers_with_attributes() {
    let (long, short) = (Duration::new(3, 4), Duration::new(1, 2));
    let head = |seconds: u64, nanos: u32| {
        [&seconds.to_ne_bytes()[..], &nanos.to_ne_bytes(), &[0; 4], &attr_bytes()].concat()
    };
    assert_eq!(sent(|reply| ReplyAttr::from(reply).attr(&long, &attr())), head(3, 4));
    let entry = sent(|reply| ReplyEntry::from(reply).entry_with_ttls(&short, &long, &attr(), Generation(0)));
    assert_eq!(entry, entry_bytes(0x11, (3, 4), (1, 2)));
    let nobody = FileAttr { ino: INodeNo(0), ..attr() };
    let none = sent(|reply| ReplyEntry::from(reply).entry(&long, &nobody, Generation(0)));
    assert_eq!((none.len(), &none[..8]), (128, &[0; 8][..]));
    let open_bytes = [&5_u64.to_ne_bytes()[..], &3_u32.to_ne_bytes(), &[0; 4]].concat();
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, true);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, true);
    let opened = sent(|reply| assert!(ReplyOpen::from(reply).opened(FileHandle(5), flags)));
    assert_eq!(opened, open_bytes);
    let created = sent(|reply| {
        let reply = ReplyCreate::from(reply);
        assert!(reply.created(&long, &attr(), Generation(0), FileHandle(5), flags));
    });
    assert_eq!(created, [entry_bytes(0x11, (3, 4), (3, 4)), open_bytes].concat());
}

#[test]
fn listings_end_where_the_room_does() {
    let names = sent(|reply| {
        let mut reply = ReplyDirectory::new(reply, 70);
        assert!(!reply.add(INodeNo(7), 3, FileType::Directory, "a"));
        assert!(!reply.add(INodeNo(8), 4, FileType::Socket, "12345678"));
        assert!(reply.add(INodeNo(9), 5, FileType::Symlink, ""), "64 of 70 bytes are taken");
        reply.ok();
    });
    let mut out = Writer::with_capacity(70);
    out.u64(7).u64(3).u32(1).u32(4).bytes(b"a").zeros(7);
    out.u64(8).u64(4).u32(8).u32(12).bytes(b"12345678");
    assert_eq!(names, out.finish());
    let ttl = Duration::new(3, 4);
    let entries = sent(|reply| {
        let mut reply = ReplyDirectoryPlus::new(reply, 160);
        assert!(!reply.add(3, "ab", &ttl, &attr(), Generation(0)));
        assert!(reply.add(4, "c", &ttl, &attr(), Generation(0)));
        reply.ok();
    });
    let mut out = Writer::with_capacity(160);
    out.bytes(&entry_bytes(0x11, (3, 4), (3, 4))).u64(0x11).u64(3).u32(2).u32(8).bytes(b"ab").zeros(6);
    assert_eq!(entries, out.finish());
}

/// Error numbers of all that is sent.
fn errors(send: impl FnOnce(Reply, &Underway)) -> Vec<i32> {
    let (reply, underway, mut reader) = reply();
    send(reply, &underway);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes.chunks(16).map(|message| i32::from_ne_bytes(message[4..8].try_into().unwrap())).collect()
}

#[test]
fn each_request_gets_one_answer() {
    assert_eq!(errors(|reply, _| reply.error(Errno::NOENT)), [-2]);
    assert_eq!(errors(|reply, _| drop(reply)), [-5], "forgotten");
    assert_eq!(errors(|reply, _| drop(ReplyDirectory::new(reply, 4096))), [-5], "forgotten");
    assert_eq!(errors(|reply, _| ReplyEmpty::from(reply).ok()), [0]);
    let given_up = |underway: &Underway| assert!(underway.give_up(Unique(6)).is_some());
    let late = errors(|reply, underway| {
        given_up(underway);
        assert!(!ReplyOpen::from(reply).opened(FileHandle(1), FopenFlags::empty()));
    });
    assert!(late.is_empty(), "it was answered by another: {late:?}");
    let dropped = errors(|reply, underway| {
        given_up(underway);
        drop(reply);
    });
    assert!(dropped.is_empty(), "{dropped:?}");
}
