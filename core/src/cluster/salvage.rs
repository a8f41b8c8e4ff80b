//! Salvage: what to do for a chunk all of whose replicas are damaged, each perhaps in other blocks.
//!
//! One of them takes from the others what it cannot read itself, block by block, and only what equals what it had. When all its
//! blocks verify again it is good, and the repair of the others begins from it.

use super::repair::Replicas;
use super::view::{ClusterView, ServerHealth};
use crate::ids::ServerId;

/// A replica that is to be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// Whose.
    pub server: ServerId,
    /// Who may have what it lacks.
    pub peers: Vec<ServerId>,
}

/// Whose replica to mend, if nobody has a good one. `corrupt`: of the bad replicas, those that are there and current, and damaged.
/// `turn`: another one at each attempt, since one may lack what nobody has.
pub fn salvage(
    view: &ClusterView,
    replicas: Replicas<'_>,
    corrupt: &[ServerId],
    turn: usize,
) -> Option<Salvage> {
    let may_return =
        |server: &ServerId| view.health(*server) == ServerHealth::Down && !replicas.bad.contains(server);
    if !replicas.left(view).is_empty() || replicas.set.iter().any(may_return) {
        return None;
    }
    let is_there = |server: &ServerId| view.health(*server).is_reachable() && corrupt.contains(server);
    let damaged: Vec<ServerId> = replicas.set.iter().copied().filter(is_there).collect();
    let server = *damaged.get(turn % damaged.len().max(1))?;
    Some(Salvage { server, peers: damaged.into_iter().filter(|&other| other != server).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Labels, ServerView};

    fn view(healths: &[ServerHealth]) -> ClusterView {
        let server = |&health: &ServerHealth| ServerView {
            health,
            address: "host:1".into(),
            total_bytes: 0,
            free_bytes: 0,
            leaving_bytes: 0,
            load: 0,
            draining: false,
            labels: std::sync::Arc::default(),
        };
        let numbered = healths.iter().enumerate().map(|(n, health)| (ServerId(n as u32 + 1), server(health)));
        ClusterView { servers: numbered.collect() }
    }

    #[test]
    fn only_what_nobody_else_has_is_mended_each_in_turn() {
        use ServerHealth::{Alive, Dead, Down};
        let ids = |numbers: &[u32]| numbers.iter().map(|&number| ServerId(number)).collect::<Vec<_>>();
        let (set, bad) = (ids(&[1, 2, 3]), ids(&[1, 2]));
        let all = Replicas { set: &set, bad: &set, leaving: &[], wanted: 3, required: &Labels::none() };
        let mended = |view: &ClusterView, replicas, turn| {
            salvage(view, replicas, &bad, turn).map(|one| (one.server.get(), one.peers))
        };
        let alive = view(&[Alive, Alive, Alive]);
        assert_eq!(mended(&alive, all, 0), Some((1, ids(&[2]))));
        assert_eq!(mended(&alive, all, 3), Some((2, ids(&[1]))));
        let some = Replicas { bad: &bad, ..all };
        assert_eq!(mended(&alive, some, 0), None, "3 is good");
        assert_eq!(mended(&view(&[Alive, Alive, Down]), some, 0), None, "3 may be back");
        assert_eq!(mended(&view(&[Alive, Dead, Dead]), some, 5), Some((1, Vec::new())));
        assert_eq!(mended(&view(&[Dead, Dead, Alive]), all, 0), None);
    }
}
