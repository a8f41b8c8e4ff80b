//! Ports for a new cluster.

use crate::error::CliError;
use cairn_env::random::Random;
use std::net::TcpListener;

/// Below the kernel's ephemeral range (32768 and up), so that no outgoing connection takes a port while its server is
/// down for a restart.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// `count` consecutive ports from `base`.
pub(super) fn consecutive(base: u16, count: usize) -> Result<Vec<u16>, CliError> {
    let end = usize::from(base) + count;
    if base == 0 || end > usize::from(u16::MAX) {
        return Err(CliError::Usage(format!("--base-port {base}: {count} ports do not fit below 65536")));
    }
    (base..end as u16)
        .map(|port| match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => Ok(port),
            Err(error) => Err(CliError::Failed(format!(
                "port {port} cannot be used ({error}); choose another --base-port, or none to take free ports"
            ))),
        })
        .collect()
}

/// `count` distinct free ports.
pub(super) fn free(random: &dyn Random, count: usize) -> Result<Vec<u16>, CliError> {
    let mut held = Vec::new();
    let span = u64::from(RANGE.end - RANGE.start);
    for _ in 0..10_000 {
        if held.len() == count {
            break;
        }
        let port = RANGE.start + random.below(span) as u16;
        // Holding the listener until all are found keeps them distinct.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(CliError::Failed(format!(
            "found only {} of {count} free ports on 127.0.0.1",
            held.len()
        )));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}
