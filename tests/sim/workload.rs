//! What clients do: files of their own, of which they know everything, and things that all of them use.

use super::hosts::{connect_options, random, root};
use super::invariants::{
    i01_acknowledged_is_kept, i05_all_or_nothing, i15_sessions_live_on, i28_everybody_gets_on,
};
use super::linear::{NameCall, RegisterCall};
use super::oracle::{Event, Kept, Names, Oracle, Own, Shared};
use bytes::Bytes;
use cairn_client::{Client, Error, OpenOptions};
use cairn_core::error::FsError;
use cairn_env::Env;
use cairn_env::random::{Random, SeededRandom};
use futures::future::select;
use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Names in an own directory, registers, and shared names: few, so that operations meet.
const OWN_NAMES: u64 = 8;
const REGISTERS: u64 = 4;
const SHARED_NAMES: u64 = 4;
const FILE_BYTES_MAX: u64 = 40_000;
/// Some files take frames that go down a chain.
const LARGE_FILE_BYTES_MAX: u64 = 300_000;
/// Longest wait between a write and its sync: a server can be down and up again meanwhile.
const UNSYNCED_MS_MAX: u64 = 4000;
/// The client that keeps what it has heard, as a mount does.
const KEEPER: u64 = 3;

/// How far a run is, for the clients.
#[derive(Default)]
pub(crate) struct Phase {
    /// The faults have ended: whatever fails from now on fails for no reason.
    pub(crate) calm: AtomicBool,
    /// No operation is begun any more.
    pub(crate) over: AtomicBool,
    /// Operations under way.
    busy: AtomicU64,
}

impl Phase {
    /// Whether nothing is under way any more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.over.load(Ordering::Relaxed) && self.busy.load(Ordering::Relaxed) == 0
    }
}

/// An operation under way.
struct Busy(Arc<Phase>);

impl Busy {
    fn begin(phase: &Arc<Phase>) -> Self {
        phase.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(phase))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client from its start to its end.
pub(crate) struct Life {
    id: u64,
    client: Client,
    random: SeededRandom,
    oracle: Oracle,
    phase: Arc<Phase>,
    /// Place of its directory in the record.
    own: usize,
    values: Cell<u64>,
    /// When it had its last answer, in microseconds.
    answered: Cell<u64>,
}

/// An operation has come to nothing certain.
struct Open(String);

/// Runs a client for ever; each start is another life of it.
pub(crate) async fn run_client(env: Env, seed: u64, id: u64, oracle: Oracle, phase: Arc<Phase>) {
    let life = oracle.lock().own.len() as u64;
    loop {
        let mut options = connect_options(id);
        options.cache_metadata = id == KEEPER;
        let connected = Client::connect_with(env.clone(), options, root(id == KEEPER)).await;
        let Ok(connected) = connected else { continue };
        let own = {
            let mut record = oracle.lock();
            let path = format!("/client-{id}-life-{}", record.own.len());
            record.own.push(Own { path, ..Own::default() });
            record.own.len() - 1
        };
        let random = random(seed, 1000 * id + life + own as u64);
        let life = Life {
            id,
            client: connected,
            random,
            oracle: oracle.clone(),
            phase: phase.clone(),
            own,
            values: Cell::default(),
            answered: Cell::new(oracle.now()),
        };
        let Open(why) = life.live().await;
        tracing::info!(id, why, "a client begins anew");
        oracle.trace(&format!("client {id} begins anew: {why}"));
        oracle.lock().open += 1;
    }
}

impl Life {
    /// Two things at a time, as an application with two threads.
    async fn live(&self) -> Open {
        let busy = Busy::begin(&self.phase);
        if let Err(open) = self.begin().await {
            return open;
        }
        drop(busy);
        let (alone, together) = (pin!(self.use_own_and_shared()), pin!(self.use_shared()));
        select(alone, together).await.factor_first().0
    }

    async fn use_own_and_shared(&self) -> Open {
        loop {
            let busy = self.next_turn().await;
            let done = match self.random.below(10) {
                0..=5 => self.change_own().await,
                6 | 7 => self.use_register().await,
                _ => self.use_name().await,
            };
            if let Err(open) = done {
                return open;
            }
            self.done(busy);
            tokio::time::sleep(Duration::from_millis(self.random.below(120))).await;
        }
    }

    /// The keeper looks again and again at what it believes to know.
    async fn use_shared(&self) -> Open {
        let keeps = self.id == KEEPER;
        loop {
            let busy = self.next_turn().await;
            let done = match self.random.below(3) {
                _ if keeps => self.look_at(self.some_name()).await,
                0 => self.use_register().await,
                _ => self.use_name().await,
            };
            if let Err(open) = done {
                return open;
            }
            self.done(busy);
            let pause = self.random.below(if keeps { 50 } else { 200 });
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Nothing is begun when it is over.
    async fn next_turn(&self) -> Busy {
        if self.phase.over.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Busy::begin(&self.phase)
    }

    fn done(&self, busy: Busy) {
        drop(busy);
        self.answered.set(self.oracle.now());
        let mut record = self.oracle.lock();
        record.acknowledged += 1;
        if self.phase.calm.load(Ordering::Relaxed) {
            *record.calm.entry(self.id).or_default() += 1;
        }
    }

    async fn begin(&self) -> Result<(), Open> {
        let path = self.oracle.lock().own[self.own].path.clone();
        let made = self.client.create_dir(&path).await;
        self.certain("mkdir", made)?;
        self.oracle.lock().own[self.own].made = true;
        // Whoever comes first.
        match self.client.create_dir("/shared").await {
            Ok(()) | Err(Error { source: FsError::Exists, .. }) => {}
            Err(error) => return Err(self.doubt("mkdir", &error)),
        }
        for register in 0..REGISTERS {
            match OpenOptions::new()
                .write(true)
                .create(true)
                .open(&self.client, register_path(register))
                .await
            {
                Ok(file) => {
                    let closed = file.close().await;
                    self.certain("close", closed)?;
                }
                Err(error) => return Err(self.doubt("create", &error)),
            }
        }
        Ok(())
    }

    /// An error leaves open what was done; some are wrong in themselves.
    fn doubt(&self, what: &str, error: &Error) -> Open {
        let calm = self.phase.calm.load(Ordering::Relaxed);
        let wrong = i28_everybody_gets_on::error(self.id, what, &error.source, calm);
        let silent = Duration::from_micros(self.oracle.now() - self.answered.get());
        let gone = i15_sessions_live_on::check(self.id, &error.to_string(), silent);
        wrong.into_iter().chain(gone).for_each(|wrong| self.oracle.break_with(wrong));
        Open(format!("{what}: {error}"))
    }

    fn certain<T>(&self, what: &str, outcome: Result<T, Error>) -> Result<T, Open> {
        outcome.map_err(|error| self.doubt(what, &error))
    }

    /// Begins a change of the own directory, which is in doubt until it has answered.
    fn under_way(&self, change: impl FnOnce(&mut Names)) {
        let mut record = self.oracle.lock();
        let own = &mut record.own[self.own];
        let mut after = own.before.clone();
        change(&mut after);
        own.after = after;
    }

    fn acknowledged(&self) {
        let mut record = self.oracle.lock();
        let own = &mut record.own[self.own];
        own.before = own.after.clone();
    }

    fn some_bytes(&self, most: u64) -> Vec<u8> {
        let length = 1 + self.random.below(most);
        let first = self.random.below(251);
        (0..length).map(|at| ((first + at * 7 + at / 4096) % 251) as u8).collect()
    }

    async fn change_own(&self) -> Result<(), Open> {
        let (directory, names) = {
            let record = self.oracle.lock();
            (record.own[self.own].path.clone(), record.own[self.own].before.clone())
        };
        let (name, other) = (format!("n{}", self.random.below(OWN_NAMES)), self.random.below(OWN_NAMES));
        let (path, other) = (format!("{directory}/{name}"), format!("n{other}"));
        let client = self.client.clone();
        let (what, done) = match (names.get(&name).cloned(), self.random.below(6)) {
            (None, 0) => {
                self.under_way(|names| drop(names.insert(name, Kept::Dir)));
                ("mkdir", client.create_dir(path).await)
            }
            (None | Some(Kept::File(_)), 1) => {
                let most = if self.random.below(4) == 0 { LARGE_FILE_BYTES_MAX } else { FILE_BYTES_MAX };
                let contents = self.some_bytes(most);
                self.under_way(|names| drop(names.insert(name, Kept::File(contents.clone()))));
                ("write", client.write(path, contents).await)
            }
            (None, _) => {
                let contents = self.some_bytes(2000);
                self.under_way(|names| drop(names.insert(name, Kept::File(contents.clone()))));
                ("create", client.write(path, contents).await)
            }
            (Some(Kept::Dir), _) => {
                self.under_way(|names| drop(names.remove(&name)));
                ("rmdir", client.remove_dir(path).await)
            }
            (Some(Kept::File(_)), 2) => {
                self.under_way(|names| drop(names.remove(&name)));
                ("unlink", client.remove_file(path).await)
            }
            (Some(Kept::File(contents)), 3) if name != other && names.get(&other) != Some(&Kept::Dir) => {
                let to = format!("{directory}/{other}");
                self.under_way(|names| {
                    names.remove(&name);
                    names.insert(other, Kept::File(contents));
                });
                ("rename", client.rename(path, to).await)
            }
            (Some(Kept::File(contents)), 4) => ("overwrite", self.overwrite(&path, &name, contents).await),
            (Some(Kept::File(contents)), _) => ("read", self.read_back(&path, &contents).await),
        };
        if let Err(Error { source: FsError::Unavailable(_) | FsError::Io(_), .. }) = &done {
            self.oracle.lock().own[self.own].has_holes = true;
        }
        self.certain(what, done)?;
        self.acknowledged();
        Ok(())
    }

    /// Some bytes in place, and synced, now and then much later: what strikes in between finds them unsynced.
    async fn overwrite(&self, path: &str, name: &str, mut contents: Vec<u8>) -> Result<(), Error> {
        let offset = self.random.below(contents.len() as u64 + 1);
        let bytes = self.some_bytes(9000);
        let end = offset as usize + bytes.len();
        contents.resize(contents.len().max(end), 0);
        contents[offset as usize..end].copy_from_slice(&bytes);
        self.under_way(|names| drop(names.insert(name.to_owned(), Kept::File(contents))));
        let file = OpenOptions::new().read(true).write(true).open(&self.client, path).await?;
        file.write_at(offset, bytes).await?;
        if self.random.below(2) == 0 {
            tokio::time::sleep(Duration::from_millis(self.random.below(UNSYNCED_MS_MAX))).await;
        }
        file.sync_all().await?;
        file.close().await
    }

    /// I1: what was acknowledged is what is read.
    async fn read_back(&self, path: &str, contents: &[u8]) -> Result<(), Error> {
        self.under_way(|_| {});
        let read = self.client.read(path).await?;
        let wrong = i01_acknowledged_is_kept::read(self.id, path, &read, contents);
        wrong.into_iter().for_each(|wrong| self.oracle.break_with(wrong));
        Ok(())
    }

    /// Notes a call of the history before it is made; returns its place.
    fn begin_call(&self, call: Shared) -> usize {
        let begun = self.oracle.now();
        let mut record = self.oracle.lock();
        record.history.push(Event { call, begun, ended: None });
        record.history.len() - 1
    }

    fn end_call(&self, place: usize, call: Shared) {
        self.oracle.trace(&format!("{} {call:?}", self.id));
        let ended = Some(self.oracle.now());
        let mut record = self.oracle.lock();
        record.history[place].call = call;
        record.history[place].ended = ended;
    }

    async fn use_register(&self) -> Result<(), Open> {
        let register = self.random.below(REGISTERS);
        let path = register_path(register);
        if self.random.below(2) == 0 {
            self.values.set(self.values.get() + 1);
            let value = (self.own as u64) << 32 | self.values.get();
            let call = Shared::Register(register, RegisterCall::Write(value));
            let place = self.begin_call(call.clone());
            let set =
                self.client.set_xattr(path, "user.value", Bytes::from(value.to_le_bytes().to_vec())).await;
            self.certain("setxattr", set)?;
            self.end_call(place, call);
            return Ok(());
        }
        let begun = self.oracle.now();
        let value = match self.client.xattr(path, "user.value").await {
            Ok(value) => Some(u64::from_le_bytes(value[..].try_into().unwrap_or_default())),
            Err(Error { source: FsError::NoAttribute, .. }) => None,
            Err(error) => return Err(self.doubt("getxattr", &error)),
        };
        let place = self.begin_call(Shared::Register(register, RegisterCall::Read(value)));
        self.oracle.lock().history[place].begun = begun;
        self.end_call(place, Shared::Register(register, RegisterCall::Read(value)));
        Ok(())
    }

    /// One of them more than the others, so that clients meet there.
    fn some_name(&self) -> u64 {
        if self.random.below(2) == 0 { 0 } else { self.random.below(SHARED_NAMES) }
    }

    /// Whoever is told that a name is there, or is not, looks at once whether that is so.
    async fn use_name(&self) -> Result<(), Open> {
        let number = self.some_name();
        let done = match self.random.below(3) {
            0 => self.make(number).await?,
            1 => self.remove(number).await?,
            _ => false,
        };
        if !done {
            self.look_at(number).await?;
        }
        Ok(())
    }

    async fn make(&self, number: u64) -> Result<bool, Open> {
        let place = self.begin_call(Shared::Name(number, NameCall::Make(None)));
        let made =
            OpenOptions::new().write(true).create_new(true).open(&self.client, name_path(number)).await;
        match made {
            Ok(file) => {
                self.end_call(place, Shared::Name(number, NameCall::Make(Some(true))));
                // Another client may have removed it meanwhile.
                match file.close().await {
                    Ok(()) | Err(Error { source: FsError::NotFound | FsError::Stale, .. }) => Ok(true),
                    Err(error) => Err(self.doubt("close", &error)),
                }
            }
            Err(Error { source: FsError::Exists, .. }) => {
                self.end_call(place, Shared::Name(number, NameCall::Make(Some(false))));
                Ok(false)
            }
            Err(error) => Err(self.doubt("exclusive create", &error)),
        }
    }

    async fn remove(&self, number: u64) -> Result<bool, Open> {
        let place = self.begin_call(Shared::Name(number, NameCall::Remove(None)));
        let removed = match self.client.remove_file(name_path(number)).await {
            Ok(()) => true,
            Err(Error { source: FsError::NotFound, .. }) => false,
            Err(error) => return Err(self.doubt("unlink", &error)),
        };
        self.end_call(place, Shared::Name(number, NameCall::Remove(Some(removed))));
        Ok(removed)
    }

    async fn look_at(&self, number: u64) -> Result<(), Open> {
        let begun = self.oracle.now();
        let there = self.client.exists(name_path(number)).await;
        let there = self.certain("stat", there)?;
        let place = self.begin_call(Shared::Name(number, NameCall::Look(there)));
        self.oracle.lock().history[place].begun = begun;
        self.end_call(place, Shared::Name(number, NameCall::Look(there)));
        Ok(())
    }
}

fn name_path(name: u64) -> String {
    format!("/shared/name-{name}")
}

fn register_path(register: u64) -> String {
    format!("/shared/register-{register}")
}

/// Looks at everything that any life of any client has left, through a client of its own.
pub(crate) async fn verify(env: Env, oracle: Oracle) {
    let client = match Client::connect_with(env, connect_options(99), root(false)).await {
        Ok(client) => client,
        Err(error) => return oracle.break_with(format!("I28: nobody can connect: {error}")),
    };
    let all = oracle.lock().own.clone();
    for own in all {
        let found = match look(&client, &own.path).await {
            Ok(found) => found,
            Err(Error { source: FsError::NotFound, .. }) if !own.made => continue,
            Err(error) => {
                oracle.break_with(format!("I1: {}: {error}", own.path));
                continue;
            }
        };
        let wrong = i01_acknowledged_is_kept::directory(&own, &found);
        let torn = i05_all_or_nothing::directory(&own, &found);
        wrong.into_iter().chain(torn).for_each(|wrong| oracle.break_with(wrong));
    }
}

async fn look(client: &Client, directory: &str) -> Result<Names, Error> {
    use futures::TryStreamExt;
    let mut listing = client.read_dir(directory).await?;
    let mut found = Names::new();
    while let Some(entry) = listing.try_next().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{directory}/{name}");
        let kept = match client.metadata(&path).await?.is_dir() {
            true => Kept::Dir,
            false => Kept::File(client.read(&path).await?.to_vec()),
        };
        found.insert(name, kept);
    }
    Ok(found)
}
