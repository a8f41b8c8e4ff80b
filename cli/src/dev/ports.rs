//! Ports for a new cluster, held until its services have them.

use crate::error::CliError;
use cairn_env::random::Random;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;
use tokio::net::TcpSocket;

/// Below the kernel's ephemeral range (32768 and up), so that no outgoing connection takes a port while its server is
/// down for a restart.
const RANGE: Range<u16> = 15_000..32_000;
/// Draws before the range counts as full.
const DRAWS_MAX: usize = 10_000;

/// Ports that nobody else chooses while this lives; the services they are meant for can listen there.
///
/// Each is bound, not listening, with SO_REUSEADDR: beside that, Linux lets another socket with SO_REUSEADDR bind and
/// listen, as services do, and refuses one without, as `free` tries first.
#[derive(Default)]
pub(super) struct Reserved(Vec<(u16, TcpSocket)>);

impl Reserved {
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        self.0.iter().map(|(port, _)| *port)
    }
}

/// `count` consecutive ports from `base`.
pub(super) fn consecutive(address: IpAddr, base: u16, count: usize) -> Result<Reserved, CliError> {
    let end = usize::from(base) + count;
    if base == 0 || end > usize::from(u16::MAX) {
        return Err(CliError::Usage(format!("--base-port {base}: {count} ports do not fit below 65536")));
    }
    // The listener tells whether somebody listens. Unlike a choice of `free`, these ports may have been a cluster's a
    // moment ago, whose connections still fade away: hence SO_REUSEADDR from the start.
    let reserve = |port| {
        drop(TcpListener::bind((address, port))?);
        bind(SocketAddr::new(address, port), true)
    };
    let reserved = (base..end as u16).map(|port| match reserve(port) {
        Ok(socket) => Ok((port, socket)),
        Err(error) => Err(CliError::Failed(format!(
            "port {port} of {address} cannot be used ({error}); choose another --base-port, or none to take free ports"
        ))),
    });
    reserved.collect::<Result<_, _>>().map(Reserved)
}

/// `count` distinct free ports.
pub(super) fn free(random: &dyn Random, address: IpAddr, count: usize) -> Result<Reserved, CliError> {
    free_within(random, address, RANGE, count)
}

fn free_within(
    random: &dyn Random,
    address: IpAddr,
    range: Range<u16>,
    count: usize,
) -> Result<Reserved, CliError> {
    let mut reserved = Vec::new();
    for _ in 0..DRAWS_MAX {
        if reserved.len() == count {
            return Ok(Reserved(reserved));
        }
        let port = range.start + random.below(range.len() as u64) as u16;
        if let Ok(socket) = bind(SocketAddr::new(address, port), false) {
            socket.set_reuseaddr(true).map_err(CliError::host(format!("reserving port {port}")))?;
            reserved.push((port, socket));
        }
    }
    Err(CliError::Failed(format!("found only {} of {count} free ports on {address}", reserved.len())))
}

fn bind(address: SocketAddr, reuse: bool) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(reuse)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_env::Env;
    use std::net::Ipv4Addr;

    const CHOOSERS: usize = 16;
    const EACH: usize = 8;

    #[test]
    fn ports_chosen_at_one_moment_are_never_shared_and_services_can_listen_there() {
        let address = IpAddr::V4(Ipv4Addr::new(127, 255, 1, 1));
        // Not many more than are wanted: the choosers meet at nearly each draw.
        let range = 20_000..20_000 + (CHOOSERS * EACH + 20) as u16;
        let choose = || free_within(&*Env::real().random, address, range.clone(), EACH).unwrap();
        let chosen: Vec<Reserved> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CHOOSERS).map(|_| scope.spawn(choose)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut ports: Vec<u16> = chosen.iter().flat_map(Reserved::ports).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), CHOOSERS * EACH, "a port was chosen twice");

        let services: Vec<TcpListener> =
            ports.iter().map(|port| TcpListener::bind((address, *port)).unwrap()).collect();
        drop(chosen);
        let taken = |port: u16| bind(SocketAddr::new(address, port), false).is_err();
        assert!(ports.iter().all(|port| taken(*port)), "a port with a service counts as free");
        assert_eq!(services.len(), ports.len());
    }

    #[test]
    fn consecutive_ports_are_held_and_one_in_use_is_named() {
        let address = IpAddr::V4(Ipv4Addr::new(127, 255, 1, 2));
        let held = consecutive(address, 20_000, 3).unwrap();
        assert!(held.ports().eq([20_000, 20_001, 20_002]));
        assert!(free_within(&*Env::real().random, address, 20_000..20_003, 1).is_err());
        let service = TcpListener::bind((address, 20_001)).unwrap();
        drop(held);
        let refused = consecutive(address, 20_000, 3).err().unwrap().to_string();
        assert!(refused.contains("20001"), "{refused}");
        drop(service);
        assert!(consecutive(address, 65_530, 10).is_err());
    }
}
