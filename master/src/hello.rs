//! The check of a Hello at this master: the right role, then what every component checks (cluster and protocol).

use crate::parts::Parts;
use cairn_core::ids::NodeId;
use cairn_proto::hello;
use cairn_proto::v1::{Hello, Refused, RefusedReason, Role};

/// A Hello that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The other's node; nil when it gave none.
    pub(crate) node: NodeId,
    /// Highest protocol that both speak.
    pub(crate) protocol: u32,
}

/// Most characters kept of a text that a peer sent, for logs and operators.
const TEXT_CHARS_MAX: usize = 128;

/// Checks `theirs`, of a peer that should have `role`. A client may leave the cluster empty (first contact); a chunk
/// server may while it has joined none.
///
/// # Errors
/// The refusal to send: it names this master and the way out.
pub(crate) fn check(parts: &Parts, theirs: Option<&Hello>, role: Role) -> Result<Peer, Refused> {
    let ours = hello::hello(parts.cluster, parts.node, Role::Master);
    judge(&ours, theirs, role)
}

/// Checks `theirs` against the hello that this master says itself.
///
/// # Errors
/// As [`check`].
pub(crate) fn judge(ours: &Hello, theirs: Option<&Hello>, role: Role) -> Result<Peer, Refused> {
    let bad = |message: String| hello::refused(RefusedReason::RefusedBadRequest, message);
    let theirs = theirs.ok_or_else(|| bad("the first message must carry a hello".to_owned()))?;
    if theirs.role() != role {
        return Err(bad(format!(
            "this call of the master serves a {}, the caller is a {}: check which address the caller was given",
            hello::role_name(role.into()),
            hello::role_name(theirs.role)
        )));
    }
    if !theirs.cluster.is_empty() && theirs.cluster.len() != 16 {
        return Err(bad("a cluster id must have 16 bytes".to_owned()));
    }
    let protocol = hello::judge(ours, theirs)?;
    Ok(Peer { node: hello::node_of(theirs), protocol })
}

/// A peer's text, fit for logs and operators.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::ids::ClusterId;
    use uuid::Uuid;

    fn of(cluster: u128, role: Role) -> Hello {
        hello::hello(ClusterId(Uuid::from_u128(cluster)), NodeId(Uuid::from_u128(9)), role)
    }

    fn reason(theirs: Option<&Hello>) -> RefusedReason {
        judge(&of(7, Role::Master), theirs, Role::Client).unwrap_err().reason()
    }

    #[test]
    fn a_peer_of_the_cluster_or_of_none_yet_passes() {
        for cluster in [7, 0] {
            let peer = judge(&of(7, Role::Master), Some(&of(cluster, Role::Client)), Role::Client).unwrap();
            assert_eq!(peer.node, NodeId(Uuid::from_u128(9)));
        }
    }

    #[test]
    fn strangers_are_refused_with_the_reason() {
        assert_eq!(reason(Some(&of(8, Role::Client))), RefusedReason::RefusedWrongCluster);
        assert_eq!(reason(Some(&of(7, Role::Chunkserver))), RefusedReason::RefusedBadRequest);
        let short = Hello { cluster: vec![7; 3].into(), ..of(7, Role::Client) };
        assert_eq!(reason(Some(&short)), RefusedReason::RefusedBadRequest);
        let later = Hello { protocol_min: 99, protocol_max: 99, ..of(7, Role::Client) };
        assert_eq!(reason(Some(&later)), RefusedReason::RefusedVersion);
        assert_eq!(reason(None), RefusedReason::RefusedBadRequest);
    }

    #[test]
    fn texts_of_peers_are_cut_and_cleaned() {
        assert_eq!(printable("a\n\u{1b}b"), "ab");
        assert_eq!(printable(&"é".repeat(500)).chars().count(), TEXT_CHARS_MAX);
    }
}
