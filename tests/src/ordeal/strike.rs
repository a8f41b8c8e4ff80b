//! How faults are inflicted, and what ends them.

use super::schedule::{Calls, Fault, From, Role, Ways};
use super::stage::{MASTERS, MOUNTS, SERVER_PORT, SERVERS, Stage};
use crate::network::{Host, address};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A disk is lost for good only when no chunk has its last copy there. That is waited for so long.
const LOSS_PATIENCE: Duration = Duration::from_secs(30);

/// What ends a fault.
#[derive(Clone, Debug)]
pub enum Cure {
    /// These are to run.
    Start(Vec<String>),
    /// SIGCONT.
    Continue(String),
    /// Each of some reaches each of others.
    Mend(Vec<(Vec<Host>, Vec<Host>)>),
    /// Nothing is wrong with the disk any more; the server is started anew if it has given it up.
    Disk(u8, u8, bool),
}

fn server_name(server: u8) -> String {
    format!("chunkserver-{server}")
}

fn server_names() -> Vec<String> {
    (1..=SERVERS.len() as u8).map(server_name).collect()
}

fn master_names() -> Vec<String> {
    MASTERS.map(|host| format!("master-{host}")).to_vec()
}

/// Everybody but these and the operator.
fn others(some: &[Host]) -> Vec<Host> {
    let all = MASTERS.into_iter().chain(SERVERS).chain(MOUNTS);
    all.filter(|host| !some.contains(host)).collect()
}

fn hosts(from: From, one: Host) -> Vec<Host> {
    let group = match from {
        From::All => return others(&[one]),
        From::Masters => &MASTERS[..],
        From::Servers => &SERVERS[..],
        From::Mounts => &MOUNTS[..],
    };
    group.iter().copied().filter(|host| *host != one).collect()
}

impl Stage {
    /// Lets it happen. Returns what ends it; `None` if it cannot happen now.
    pub fn strike(&mut self, fault: Fault) -> Option<Cure> {
        self.servers_of(fault).into_iter().for_each(|server| self.losses.begin(server));
        Some(match fault {
            Fault::ServerKilled { server, .. } => self.kill(vec![server_name(server)]),
            Fault::TwoServersKilled { server, other } => {
                self.kill(vec![server_name(server), server_name(other)])
            }
            Fault::AllServersKilled => self.kill(server_names()),
            Fault::AllMastersKilled => self.kill(master_names()),
            Fault::EverythingKilled => self.kill([master_names(), server_names()].concat()),
            Fault::ServerPaused { server, .. } => self.pause(server_name(server)),
            Fault::MountPaused { mount } => self.pause(format!("mount-{mount}")),
            Fault::ServerCut { server, from, ways } => self.cut(SERVERS[usize::from(server) - 1], from, ways),
            Fault::MountCut { mount, from } => {
                if from != From::Masters {
                    self.losses.begin_cut(mount);
                }
                self.cut(MOUNTS[mount - 1], from, Ways::Both)
            }
            Fault::MasterKilled { role } => {
                let name = self.master(role)?;
                self.kill(vec![name])
            }
            Fault::MasterPaused { role } => {
                let name = self.master(role)?;
                self.pause(name)
            }
            Fault::MasterCut { role, from, ways } => {
                let host = self.master_host(role)?;
                self.cut(host, from, ways)
            }
            Fault::MountKilled { mount } => {
                self.kill_mount(mount);
                Cure::Start(vec![format!("mount-{mount}")])
            }
            Fault::DiskSlow { server, disk, by_ms } => {
                self.disk(server, disk).faults().slow_down(Duration::from_millis(by_ms.into()));
                Cure::Disk(server, disk, false)
            }
            Fault::DiskHangs { server, disk, is_long } => {
                self.disk(server, disk).faults().hang();
                Cure::Disk(server, disk, is_long)
            }
            Fault::DiskFails { server, disk, calls } => {
                let faults = self.disk(server, disk).faults();
                faults.fail_reads(calls != Calls::Writes);
                faults.fail_writes(calls != Calls::Reads);
                Cure::Disk(server, disk, true)
            }
            Fault::DiskFull { server, disk, shows } => {
                self.disk(server, disk).faults().fill(true, shows);
                Cure::Disk(server, disk, false)
            }
            Fault::DiskReplaced { server, disk } => return self.replace_disk(server, disk),
        })
    }

    /// Ends it.
    pub fn cure(&mut self, fault: Fault, cure: Cure) {
        match cure {
            Cure::Start(names) => names.iter().for_each(|name| self.process(name).is_wanted = true),
            Cure::Continue(name) => self.process(&name).signal(Signal::CONT),
            Cure::Mend(ways) => {
                ways.iter().for_each(|(from, to)| self.network.mend_ways(from, to));
                if let Fault::MountCut { mount, .. } = fault {
                    self.losses.end_cut(mount);
                }
            }
            Cure::Disk(server, disk, restarts) => {
                self.disk(server, disk).faults().heal();
                if restarts {
                    self.process(&server_name(server)).kill();
                    self.process(&server_name(server)).is_wanted = true;
                }
            }
        }
        self.servers_of(fault).into_iter().for_each(|server| self.losses.end(server));
    }

    /// Chunk servers that something is wrong with meanwhile, as programs see it.
    fn servers_of(&self, fault: Fault) -> Vec<u8> {
        match fault {
            Fault::ServerKilled { server, .. }
            | Fault::ServerPaused { server, .. }
            | Fault::ServerCut { server, .. }
            | Fault::DiskSlow { server, .. }
            | Fault::DiskHangs { server, .. }
            | Fault::DiskFails { server, .. }
            | Fault::DiskFull { server, .. }
            | Fault::DiskReplaced { server, .. } => vec![server],
            Fault::TwoServersKilled { server, other } => vec![server, other],
            Fault::AllServersKilled | Fault::EverythingKilled => (1..=SERVERS.len() as u8).collect(),
            _ => Vec::new(),
        }
    }

    fn kill(&mut self, names: Vec<String>) -> Cure {
        names.iter().for_each(|name| self.process(name).kill());
        Cure::Start(names)
    }

    fn pause(&mut self, name: String) -> Cure {
        self.process(&name).signal(Signal::STOP);
        Cure::Continue(name)
    }

    fn cut(&mut self, host: Host, from: From, ways: Ways) -> Cure {
        let others = hosts(from, host);
        let to_it = (others.clone(), vec![host]);
        let from_it = (vec![host], others);
        let cut = match ways {
            Ways::Both => vec![to_it, from_it],
            Ways::ToIt => vec![to_it],
            Ways::FromIt => vec![from_it],
        };
        cut.iter().for_each(|(from, to)| self.network.cut_ways(from, to));
        Cure::Mend(cut)
    }

    fn master_host(&mut self, role: Role) -> Option<Host> {
        let leader = self.leader()?;
        Some(match role {
            Role::Leader => leader,
            Role::Follower => leader % MASTERS.len() as u8 + 1,
        })
    }

    fn master(&mut self, role: Role) -> Option<String> {
        self.master_host(role).map(|host| format!("master-{host}"))
    }

    fn replace_disk(&mut self, server: u8, disk: u8) -> Option<Cure> {
        let address = format!("{}:{SERVER_PORT}", address(SERVERS[usize::from(server) - 1]));
        let begun = Instant::now();
        while self.last_copies(&address) != Some(0) {
            if begun.elapsed() > LOSS_PATIENCE {
                self.losses.end(server);
                return None;
            }
            self.tend();
            std::thread::sleep(Duration::from_millis(300));
        }
        self.process(&server_name(server)).kill();
        while self.process(&server_name(server)).exists() && begun.elapsed() < 2 * LOSS_PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let replaced = self.disk(server, disk).replace();
        replaced.unwrap_or_else(|error| panic!("disk {disk} of chunkserver-{server}: {error}"));
        Some(Cure::Start(vec![server_name(server)]))
    }

    /// Chunks that nobody could read without this server.
    fn last_copies(&mut self, address: &str) -> Option<u64> {
        self.ask_json(&format!("admin whatif lose {address}"))?["unreadable"].as_u64()
    }

    /// Ends whatever may still be wrong.
    pub fn heal_everything(&mut self) {
        self.network.heal();
        for server in 1..=SERVERS.len() as u8 {
            self.losses.end(server);
        }
        (1..=MOUNTS.len()).for_each(|mount| self.losses.end_cut(mount));
    }
}
