//! Random operations on one file, compared with a vector of bytes after every read, from two clients in turn.

use crate::cluster::{Cluster, READ_WRITE, name, root};
use cairn_client::fs::{FileSystem, OpenFile};
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::request::AllocateMode;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize),
    Read(u64, u32),
    Truncate(u64),
    Punch(u64, u64),
    Sync,
    Reopen,
    /// The other client goes on, after this one has closed.
    Swap,
}

const SPREAD: u64 = 900_000;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SPREAD, 1usize..6000).prop_map(|(offset, length)| Step::Write(offset, length)),
        2 => (0..SPREAD, 60_000usize..400_000).prop_map(|(offset, length)| Step::Write(offset, length)),
        6 => (0..SPREAD, 1u32..300_000).prop_map(|(offset, length)| Step::Read(offset, length)),
        2 => (0..SPREAD).prop_map(Step::Truncate),
        1 => (0..SPREAD, 1u64..200_000).prop_map(|(offset, length)| Step::Punch(offset, length)),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Swap),
    ]
}

struct Session {
    clients: [FileSystem; 2],
    turn: usize,
    file: OpenFile,
    model: Vec<u8>,
    salt: u8,
}

impl Session {
    fn fs(&self) -> &FileSystem {
        &self.clients[self.turn]
    }

    async fn close(&self) {
        self.fs().flush(&self.file).await.unwrap();
        self.fs().release(&self.file).await;
    }

    async fn open(&mut self) {
        self.file = self.fs().open(&root(), self.file.inode(), READ_WRITE).await.unwrap();
    }

    async fn check(&self, offset: u64, length: u32) {
        let bytes = self.fs().read(&self.file, offset, length).await.unwrap();
        let from = (offset as usize).min(self.model.len());
        let to = (from + length as usize).min(self.model.len());
        assert_eq!(bytes.len(), to - from, "length at {offset}");
        let wrong = (from..to).find(|at| bytes[at - from] != self.model[*at]);
        assert_eq!(wrong, None, "reading {length} at {offset}");
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Write(offset, length) => {
                self.salt = self.salt.wrapping_add(1);
                let data = crate::cluster::pattern(offset, length, self.salt);
                let end = offset as usize + length;
                if self.model.len() < end {
                    self.model.resize(end, 0);
                }
                self.model[offset as usize..end].copy_from_slice(&data);
                let accepted = self.fs().write(&self.file, offset, data.into()).await.unwrap();
                assert_eq!(accepted as usize, length);
            }
            Step::Read(offset, length) => self.check(offset, length).await,
            Step::Truncate(size) => {
                self.model.resize(size as usize, 0);
                let changes = AttrChanges { size: Some(size), ..AttrChanges::default() };
                let attr =
                    self.fs().setattr(&root(), self.file.inode(), changes, Some(&self.file)).await.unwrap();
                assert_eq!(attr.size, size);
            }
            Step::Punch(offset, length) => {
                let from = (offset as usize).min(self.model.len());
                let to = (from + length as usize).min(self.model.len());
                self.model[from..to].fill(0);
                let mode = AllocateMode::PunchHole;
                self.fs().allocate(&root(), &self.file, mode, offset, length).await.unwrap();
            }
            Step::Sync => self.fs().fsync(&self.file).await.unwrap(),
            Step::Reopen => {
                self.close().await;
                self.open().await;
            }
            Step::Swap => {
                self.close().await;
                self.turn = 1 - self.turn;
                self.open().await;
            }
        }
        let attr = self.fs().getattr(&root(), self.file.inode(), None).await.unwrap();
        assert_eq!(attr.size as usize, self.model.len());
    }
}

#[test]
fn a_file_behaves_like_a_vector_of_bytes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (cluster, clients) = runtime.block_on(async {
        let cluster = Cluster::start(3, 2).await;
        let clients = [cluster.client().await, cluster.client().await];
        (cluster, clients)
    });
    let mut runner = TestRunner::new(Config { cases: 24, max_shrink_iters: 200, ..Config::default() });
    let mut files = 0;
    let files = std::cell::RefCell::new(&mut files);
    let outcome = runner.run(&proptest::collection::vec(step(), 1..60), |steps| {
        **files.borrow_mut() += 1;
        let name = name(&format!("file-{}", files.borrow()));
        let clients = clients.clone();
        let case = async {
            let (_, file) =
                clients[0].create(&root(), InodeId::ROOT, &name, 0o600, READ_WRITE).await.unwrap();
            let mut session = Session { clients, turn: 0, file, model: Vec::new(), salt: 0 };
            for step in steps {
                session.apply(step).await;
            }
            let length = session.model.len() as u32;
            session.check(0, length + 10).await;
            session.close().await;
            session.turn = 1 - session.turn;
            session.open().await;
            session.check(0, length + 10).await;
            session.close().await;
        };
        runtime.block_on(case);
        Ok(())
    });
    drop(cluster);
    outcome.unwrap();
}
