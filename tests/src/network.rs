//! Machines that are network namespaces, joined by a switch that is another: whatever one sends another can be cut, one way or both.
//!
//! Nothing of it is in the namespace that the test runs in. Every machine knows the hardware address of every other by heart.
//! A way is cut by teaching the sender an address that nobody has: packets leave and vanish, and neither side is told.

#![allow(clippy::print_stderr, reason = "what could not be cleaned up is said")]

use crate::shell::Shell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

/// Host number of a machine: its address is `10.99.0.HOST`.
pub type Host = u8;

/// The machines and the switch. Dropping it removes them.
pub struct Network {
    shell: Shell,
    prefix: String,
    hosts: Vec<Host>,
    /// Ways that are cut, and how many cuts are to be mended before each is open.
    cut: BTreeMap<(Host, Host), u32>,
}

/// Where a machine listens.
pub fn address(host: Host) -> String {
    format!("10.99.0.{host}")
}

/// Hardware address by which another reaches it, or reaches nobody.
fn hardware(host: Host, cut: bool) -> String {
    format!("02:00:00:00:{:02x}:{host:02x}", u8::from(cut))
}

/// Every way from one of `from` to one of `to`.
fn ways(from: &[Host], to: &[Host]) -> BTreeSet<(Host, Host)> {
    let all = from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to)));
    all.filter(|(from, to)| from != to).collect()
}

impl Network {
    /// Machines with these numbers, each reaching all others.
    pub fn new(hosts: &[Host]) -> Self {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("cairn-{}-{}", std::process::id(), NETWORKS.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { shell: Shell::start(), prefix, hosts: hosts.to_vec(), cut: BTreeMap::new() };
        let switch = format!("{}-switch", network.prefix);
        network.shell.run(&format!("ip netns add {switch}"));
        network.shell.run(&format!("ip -n {switch} link add bridge type bridge"));
        network.shell.run(&format!("ip -n {switch} link set bridge up"));
        for &host in hosts {
            let (name, own, mac) = (network.name(host), address(host), hardware(host, false));
            network.shell.run(&format!(
                "ip netns add {name} && \
                 ip link add port{host} netns {switch} type veth peer name eth0 netns {name} address {mac} && \
                 ip -n {switch} link set port{host} master bridge up && \
                 ip -n {name} addr add {own}/24 dev eth0 && \
                 ip -n {name} link set eth0 up && ip -n {name} link set lo up"
            ));
        }
        network.teach(hosts);
        network
    }

    fn name(&self, host: Host) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Words before a command that run it on that machine. Only the network is the machine's own: what is mounted there is seen
    /// here, and the process keeps its id.
    pub fn on(&self, host: Host) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name(host))]
    }

    /// The shell, to run something else.
    pub fn shell(&mut self) -> &mut Shell {
        &mut self.shell
    }

    /// Cuts every way from one of `from` to one of `to`.
    pub fn cut_ways(&mut self, from: &[Host], to: &[Host]) {
        for way in ways(from, to) {
            *self.cut.entry(way).or_default() += 1;
        }
        self.teach(from);
    }

    /// Undoes one `cut_ways`; ways that another one has cut as well stay cut.
    pub fn mend_ways(&mut self, from: &[Host], to: &[Host]) {
        for way in ways(from, to) {
            self.cut.entry(way).and_modify(|cuts| *cuts = cuts.saturating_sub(1));
        }
        self.cut.retain(|_, cuts| *cuts > 0);
        self.teach(from);
    }

    /// As `cut_ways`, and back.
    pub fn cut_off(&mut self, some: &[Host], others: &[Host]) {
        for way in ways(some, others).into_iter().chain(ways(others, some)) {
            *self.cut.entry(way).or_default() += 1;
        }
        self.teach(&[some, others].concat());
    }

    /// Every way is open again.
    pub fn heal(&mut self) {
        self.cut.clear();
        let all = self.hosts.clone();
        self.teach(&all);
    }

    /// Tells machines where the others are, all at the same time.
    fn teach(&mut self, senders: &[Host]) {
        let mut lines = Vec::new();
        let senders: BTreeSet<Host> = senders.iter().copied().collect();
        for &sender in &senders {
            let neighbour = |&other: &Host| {
                let mac = hardware(other, self.cut.contains_key(&(sender, other)));
                format!("neigh replace {} lladdr {mac} nud permanent dev eth0\\n", address(other))
            };
            let batch: String = self.hosts.iter().filter(|&&other| other != sender).map(neighbour).collect();
            let name = self.name(sender);
            lines.push(format!("(printf '{batch}' | ip -n {name} -batch - || echo {name}) & "));
        }
        let failed = self.shell.run(&(lines.concat() + "wait"));
        assert!(failed.is_empty(), "not told where the others are: {failed}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let mut names: Vec<String> = self.hosts.iter().map(|host| self.name(*host)).collect();
        names.push(format!("{}-switch", self.prefix));
        for name in names {
            if self.shell.attempt(&format!("ip netns del {name}")).is_none() {
                eprintln!("network namespace {name} is left behind");
            }
        }
    }
}
