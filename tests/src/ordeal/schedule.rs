//! What happens when: two series of faults at a time, one at the chunk servers and one at masters, mounts and network. A
//! seed and a length make a schedule; the same ones make the same schedule.
//!
//! Each series deals its faults from a pack that is shuffled, and shuffled anew when all were dealt: in a schedule that is
//! long enough for both packs each kind strikes.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;

use super::stage::{DISKS, MOUNTS, SERVERS};

/// What is cut off from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Everybody.
    All,
    /// The masters.
    Masters,
    /// The chunk servers.
    Servers,
    /// The mounts.
    Mounts,
}

/// Which way does not carry anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Neither.
    Both,
    /// It hears nothing.
    ToIt,
    /// It is not heard.
    FromIt,
}

/// Which master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever leads then.
    Leader,
    /// The next one after it.
    Follower,
}

/// What fails on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Reads.
    Reads,
    /// Writes and syncs.
    Writes,
    /// Both.
    All,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "numbers of servers, disks and mounts, from 1")]
pub enum Fault {
    /// SIGKILL; started again at the end.
    ServerKilled { server: u8, is_long: bool },
    /// SIGKILL of two at the same time.
    TwoServersKilled { server: u8, other: u8 },
    /// SIGKILL of all.
    AllServersKilled,
    /// SIGSTOP.
    ServerPaused { server: u8, is_long: bool },
    /// The network.
    ServerCut { server: u8, from: From, ways: Ways },
    /// Each call takes so many milliseconds more.
    DiskSlow { server: u8, disk: u8, by_ms: u16 },
    /// No call is answered. A long one ends with a restart, as the server has given the disk up.
    DiskHangs { server: u8, disk: u8, is_long: bool },
    /// EIO; at the end the disk is well and the server is killed and started again.
    DiskFails { server: u8, disk: u8, calls: Calls },
    /// ENOSPC.
    DiskFull { server: u8, disk: u8, shows: bool },
    /// The server is killed, and comes back with an empty disk in place of one.
    DiskReplaced { server: u8, disk: u8 },
    /// SIGKILL.
    MasterKilled { role: Role },
    /// SIGKILL of all.
    AllMastersKilled,
    /// SIGSTOP.
    MasterPaused { role: Role },
    /// The network.
    MasterCut { role: Role, from: From, ways: Ways },
    /// SIGSTOP.
    MountPaused { mount: usize },
    /// The network.
    MountCut { mount: usize, from: From },
    /// SIGKILL; mounted anew at the end.
    MountKilled { mount: usize },
    /// SIGKILL of all masters and chunk servers.
    EverythingKilled,
}

impl Fault {
    /// Its kind, in words.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::ServerKilled { is_long: false, .. } => "server killed",
            Self::ServerKilled { is_long: true, .. } => "server killed until dead",
            Self::TwoServersKilled { .. } => "two servers killed",
            Self::AllServersKilled => "all servers killed",
            Self::ServerPaused { is_long: false, .. } => "server paused",
            Self::ServerPaused { is_long: true, .. } => "server paused until dead",
            Self::ServerCut { .. } => "server cut off",
            Self::DiskSlow { .. } => "disk slow",
            Self::DiskHangs { is_long: false, .. } => "disk hangs",
            Self::DiskHangs { is_long: true, .. } => "disk hangs until given up",
            Self::DiskFails { .. } => "disk fails (EIO)",
            Self::DiskFull { .. } => "disk full",
            Self::DiskReplaced { .. } => "disk replaced by an empty one",
            Self::MasterKilled { role: Role::Leader } => "leader killed",
            Self::MasterKilled { role: Role::Follower } => "follower killed",
            Self::AllMastersKilled => "all masters killed",
            Self::MasterPaused { role: Role::Leader } => "leader paused",
            Self::MasterPaused { role: Role::Follower } => "follower paused",
            Self::MasterCut { .. } => "master cut off",
            Self::MountPaused { .. } => "mount paused",
            Self::MountCut { .. } => "mount cut off",
            Self::MountKilled { .. } => "mount killed",
            Self::EverythingKilled => "everything killed",
        }
    }

    /// Shortest and longest time that it lasts, in milliseconds.
    const fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::ServerKilled { is_long: true, .. } | Self::ServerPaused { is_long: true, .. } => {
                (11_000, 14_000)
            }
            // Beyond `DISK_HUNG`, after which a disk is given up.
            Self::DiskHangs { is_long: true, .. } => (33_000, 36_000),
            Self::ServerKilled { .. } | Self::ServerPaused { .. } | Self::TwoServersKilled { .. } => {
                (200, 5_000)
            }
            Self::AllServersKilled | Self::EverythingKilled | Self::AllMastersKilled => (0, 1_500),
            Self::ServerCut { .. } | Self::DiskSlow { .. } | Self::DiskHangs { .. } => (2_000, 9_000),
            Self::DiskFails { .. } | Self::DiskFull { .. } => (3_000, 8_000),
            Self::DiskReplaced { .. } | Self::MountKilled { .. } => (200, 2_000),
            Self::MasterKilled { .. } | Self::MasterPaused { .. } | Self::MasterCut { .. } => (400, 4_000),
            // Shorter than the silence after which a write lease may be taken from a mount.
            Self::MountPaused { .. } | Self::MountCut { .. } => (500, 2_500),
        }
    }
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it strikes, since the beginning.
    pub at: Duration,
    /// When it ends.
    pub until: Duration,
    /// What it is.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, until) = (self.at.as_secs_f64(), self.until.as_secs_f64());
        write!(to, "{at:.1} s to {until:.1} s: {:?}", self.fault)
    }
}

struct Dice(SmallRng);

impl Dice {
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.random_range(0..all.len())]
    }

    fn flip(&mut self) -> bool {
        self.0.random_range(0..2) == 0
    }

    fn server(&mut self) -> u8 {
        self.0.random_range(1..=SERVERS.len() as u8)
    }

    fn disk(&mut self) -> u8 {
        self.0.random_range(1..=DISKS)
    }

    fn mount(&mut self) -> usize {
        self.0.random_range(1..=MOUNTS.len())
    }

    fn ways(&mut self) -> Ways {
        self.one_of(&[Ways::Both, Ways::Both, Ways::ToIt, Ways::FromIt])
    }

    fn shuffled(&mut self, mut pack: Vec<Fault>) -> Vec<Fault> {
        for at in (1..pack.len()).rev() {
            pack.swap(at, self.0.random_range(0..=at));
        }
        pack
    }

    fn at_servers(&mut self) -> Vec<Fault> {
        let two = self.server();
        let other = two % SERVERS.len() as u8 + 1;
        let from = self.one_of(&[From::All, From::Masters, From::Servers, From::Mounts]);
        let calls = self.one_of(&[Calls::Reads, Calls::Writes, Calls::All]);
        let pack = vec![
            Fault::ServerKilled { server: self.server(), is_long: false },
            Fault::ServerKilled { server: self.server(), is_long: true },
            Fault::TwoServersKilled { server: two, other },
            Fault::AllServersKilled,
            Fault::ServerPaused { server: self.server(), is_long: false },
            Fault::ServerPaused { server: self.server(), is_long: true },
            Fault::ServerCut { server: self.server(), from, ways: self.ways() },
            Fault::DiskSlow { server: self.server(), disk: self.disk(), by_ms: self.0.random_range(20..300) },
            Fault::DiskHangs { server: self.server(), disk: self.disk(), is_long: false },
            Fault::DiskHangs { server: self.server(), disk: self.disk(), is_long: true },
            Fault::DiskFails { server: self.server(), disk: self.disk(), calls },
            Fault::DiskFull { server: self.server(), disk: self.disk(), shows: self.flip() },
            Fault::DiskReplaced { server: self.server(), disk: self.disk() },
        ];
        self.shuffled(pack)
    }

    fn elsewhere(&mut self) -> Vec<Fault> {
        let role = self.one_of(&[Role::Leader, Role::Leader, Role::Follower]);
        let from = self.one_of(&[From::All, From::Masters, From::Servers, From::Mounts]);
        let pack = vec![
            Fault::MasterKilled { role: Role::Leader },
            Fault::MasterKilled { role: Role::Follower },
            Fault::AllMastersKilled,
            Fault::MasterPaused { role: Role::Leader },
            Fault::MasterPaused { role: Role::Follower },
            Fault::MasterCut { role, from, ways: self.ways() },
            Fault::MountPaused { mount: self.mount() },
            Fault::MountCut {
                mount: self.mount(),
                from: self.one_of(&[From::All, From::Masters, From::Servers]),
            },
            Fault::MountKilled { mount: self.mount() },
            Fault::EverythingKilled,
        ];
        self.shuffled(pack)
    }
}

/// One series: faults one after the other, with pauses in which all is well.
fn series(
    dice: &mut Dice,
    span: Duration,
    pause_ms: (u64, u64),
    pack: fn(&mut Dice) -> Vec<Fault>,
) -> Vec<Planned> {
    let (mut planned, mut now, mut left) = (Vec::new(), Duration::ZERO, Vec::new());
    loop {
        if left.is_empty() {
            left = pack(dice);
        }
        let Some(fault) = left.pop() else { return planned };
        let (least, most) = fault.lasts_ms();
        let at = now + Duration::from_millis(dice.0.random_range(pause_ms.0..=pause_ms.1));
        let until = at + Duration::from_millis(dice.0.random_range(least..=most));
        if until > span {
            return planned;
        }
        planned.push(Planned { at, until, fault });
        now = until;
    }
}

/// Everything that happens within a span, in the order in which it begins.
pub fn schedule(seed: u64, span: Duration) -> Vec<Planned> {
    let mut dice = Dice(SmallRng::seed_from_u64(seed));
    // After a fault at the servers what it left behind is dealt with before the next one strikes: one at a time is borne.
    let mut all = series(&mut dice, span, (2_000, 6_000), Dice::at_servers);
    all.extend(series(&mut dice, span, (1_000, 6_000), Dice::elsewhere));
    all.sort_by_key(|planned| planned.at);
    all
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
