//! Scrubbing in the simulated cluster: somebody wants a round again and again, and what was sound is never called damaged.

use super::faults::{FAILING, ROTTEN};
use super::hosts::{CHUNKSERVERS, Machines, chunkserver, masters};
use cairn_core::chunk::scrub_file::{SCRUB_FILE, SCRUB_FILE_BYTES_MAX, decode};
use cairn_env::Env;
use cairn_env::disk::read_small;
use cairn_env::net::grpc;
use cairn_proto::v1::admin_client::AdminClient;
use cairn_proto::v1::{ScrubAction, ScrubRequest};
use std::path::Path;
use std::time::Duration;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(3);

/// Has all chunk servers verify all they hold, as fast as they can, until the end.
pub(crate) async fn run_scrubs(env: Env) {
    let wanted = ScrubRequest { action: ScrubAction::ScrubStart.into(), server: 0, limit: Some(0) };
    loop {
        tokio::time::sleep(PAUSE).await;
        for address in masters() {
            let Ok(channel) = grpc::connect(&env.net, &address).await else { continue };
            let mut admin = AdminClient::new(channel);
            let asked = tokio::time::timeout(Duration::from_secs(2), admin.scrub(wanted)).await;
            if asked.is_ok_and(|reply| reply.is_ok()) {
                break;
            }
        }
    }
}

/// Damage that was found on disks of which nothing was ever damaged, by what they remember; or that nothing was looked at.
pub(crate) fn false_damage(machines: &Machines) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rounds = 0;
    for id in (1..=CHUNKSERVERS).filter(|id| ![ROTTEN, FAILING].contains(id)) {
        let disk = machines.disk(&chunkserver(id));
        let bytes = read_small(&disk, &Path::new("/disk").join(SCRUB_FILE), SCRUB_FILE_BYTES_MAX);
        let Some((scrub, _)) = bytes.ok().and_then(|bytes| decode(&bytes)) else { continue };
        rounds += scrub.rounds;
        if scrub.damaged > 0 {
            let damaged = scrub.damaged;
            broken.push(format!("scrub: {damaged} replicas of chunk server {id} are called damaged"));
        }
    }
    if rounds == 0 {
        broken.push("scrub: nobody has looked at anything".to_owned());
    }
    broken
}
