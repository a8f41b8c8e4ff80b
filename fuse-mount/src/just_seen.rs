//! One stat(2), one question.
//!
//! The kernel may believe no attributes for longer than the answer takes, so within one system call it asks twice: LOOKUP
//! or CREATE, then GETATTR of what it got (for stat(2) itself, to open it, and for the permission to enter each directory
//! of a path). The second question is recognised by its thread, its inode, and that nothing of the same thread came
//! between; it gets the first one's answer, and only while the system call can still be the same.

use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::{Attr, NodeKind};
use cairn_core::time::Tick;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time between the two questions of one system call; usually 20–50 µs.
const SAME_CALL: Duration = Duration::from_millis(1);
const SHARDS: u32 = 16;
/// How often one system call asks again about a directory (to pass through it, and to add a name) and about the rest.
const QUESTIONS_OF_DIRECTORY: u8 = 3;
const QUESTIONS_OF_OTHERS: u8 = 1;
/// Threads remembered per shard; the rest is forgotten all at once, which costs them a question each.
const THREADS_MAX: usize = 256;

/// The last such answer of each thread.
#[derive(Default)]
pub(crate) struct JustSeen {
    shards: [Mutex<HashMap<u32, Seen>>; SHARDS as usize],
}

struct Seen {
    attr: Attr,
    at: Tick,
    questions_left: u8,
}

impl JustSeen {
    /// `thread` was answered at `now`. Thread 0 is everybody outside our pid namespace: not remembered.
    pub(crate) fn saw(&self, thread: u32, attr: &Attr, now: Tick) {
        let mut shard = self.shard(thread);
        if shard.len() >= THREADS_MAX {
            shard.clear();
        }
        if thread != 0 {
            let is_directory = attr.kind == NodeKind::Directory;
            let questions_left = if is_directory { QUESTIONS_OF_DIRECTORY } else { QUESTIONS_OF_OTHERS };
            shard.insert(thread, Seen { attr: attr.clone(), at: now, questions_left });
        }
    }

    /// The answer to a GETATTR, if it is the second question.
    pub(crate) fn take(&self, thread: u32, inode: InodeId, now: Tick) -> Option<Attr> {
        let mut shard = self.shard(thread);
        let mut seen = shard.remove(&thread)?;
        if seen.attr.inode != inode || now.since(seen.at) > SAME_CALL {
            return None;
        }
        let attr = seen.attr.clone();
        seen.questions_left -= 1;
        if seen.questions_left > 0 {
            shard.insert(thread, seen);
        }
        Some(attr)
    }

    /// `thread` asked something else.
    pub(crate) fn forget(&self, thread: u32) {
        self.shard(thread).remove(&thread);
    }

    fn shard(&self, thread: u32) -> MutexGuard<'_, HashMap<u32, Seen>> {
        self.shards[(thread % SHARDS) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::time::Timestamp;

    fn attr(inode: u64) -> Attr {
        let time = Timestamp::default();
        Attr {
            inode: InodeId(inode),
            kind: NodeKind::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            links: 1,
            size: 0,
            mapped_bytes: 0,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            change: 1,
            data_change: 1,
        }
    }

    fn at(micros: u64) -> Tick {
        Tick(Duration::from_micros(micros))
    }

    #[test]
    fn the_second_question_is_answered_once() {
        let seen = JustSeen::default();
        seen.saw(7, &attr(3), at(0));
        assert_eq!(seen.take(7, InodeId(3), at(900)), Some(attr(3)));
        assert_eq!(seen.take(7, InodeId(3), at(901)), None);
    }

    #[test]
    fn a_directory_is_asked_about_more_than_once() {
        let seen = JustSeen::default();
        let directory = Attr { kind: NodeKind::Directory, ..attr(4) };
        seen.saw(7, &directory, at(0));
        for _ in 0..QUESTIONS_OF_DIRECTORY {
            assert_eq!(seen.take(7, InodeId(4), at(10)), Some(directory.clone()));
        }
        assert_eq!(seen.take(7, InodeId(4), at(10)), None);
        seen.saw(7, &directory, at(0));
        assert_eq!(seen.take(7, InodeId(4), at(1001)), None, "time counts from the first answer");
    }

    #[test]
    fn another_inode_thread_request_or_time_is_another_question() {
        let seen = JustSeen::default();
        seen.saw(7, &attr(3), at(0));
        assert_eq!(seen.take(8, InodeId(3), at(1)), None);
        assert_eq!(seen.take(7, InodeId(4), at(1)), None);
        assert_eq!(seen.take(7, InodeId(3), at(1)), None, "used up by the question before");
        seen.saw(7, &attr(3), at(0));
        seen.forget(7);
        assert_eq!(seen.take(7, InodeId(3), at(1)), None);
        seen.saw(7, &attr(3), at(0));
        assert_eq!(seen.take(7, InodeId(3), at(1001)), None);
        seen.saw(0, &attr(3), at(0));
        assert_eq!(seen.take(0, InodeId(3), at(1)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let seen = JustSeen::default();
        for thread in 0..100_000 {
            seen.saw(thread, &attr(1), at(0));
        }
        let held: usize = seen.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= SHARDS as usize * THREADS_MAX);
    }
}
