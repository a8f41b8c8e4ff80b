//! The Hello exchange: who may talk to whom. Every connection of every kind begins with it.

use crate::v1::{Hello, Refused, RefusedReason, Role};
use crate::{PROTOCOL_MAX, PROTOCOL_MIN};
use cairn_core::ids::{ClusterId, NodeId};

/// What this build says of itself in logs.
pub const SOFTWARE: &str = concat!("cairn ", env!("CARGO_PKG_VERSION"));

/// The Hello of this build. A nil cluster means "whichever this is" (first contact).
pub fn hello(cluster: ClusterId, node: NodeId, role: Role) -> Hello {
    Hello {
        cluster: if cluster.0.is_nil() { Vec::new().into() } else { cluster.0.as_bytes().to_vec().into() },
        node: node.0.as_bytes().to_vec().into(),
        role: role.into(),
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        capabilities: 0,
        software: SOFTWARE.to_owned(),
        run: 0,
    }
}

/// The cluster that a Hello names, `None` when it names none.
pub fn cluster_of(hello: &Hello) -> Option<ClusterId> {
    uuid::Uuid::from_slice(&hello.cluster).ok().filter(|uuid| !uuid.is_nil()).map(ClusterId)
}

/// The node that sent it; nil when it does not say.
pub fn node_of(hello: &Hello) -> NodeId {
    NodeId(uuid::Uuid::from_slice(&hello.node).unwrap_or_default())
}

/// Decides whether `ours` accepts `theirs`, and on which protocol version.
///
/// # Errors
/// The refusal to send back: it names this component, both versions or clusters, and the way out.
pub fn judge(ours: &Hello, theirs: &Hello) -> Result<u32, Refused> {
    let component = role_name(ours.role);
    if let (Some(our_cluster), Some(their_cluster)) = (cluster_of(ours), cluster_of(theirs))
        && our_cluster != their_cluster
    {
        return Err(refused(
            RefusedReason::RefusedWrongCluster,
            format!(
                "this {component} belongs to cluster {our_cluster}, the caller to {their_cluster}: \
                 check the addresses in the caller's configuration"
            ),
        ));
    }
    let low = ours.protocol_min.max(theirs.protocol_min);
    let high = ours.protocol_max.min(theirs.protocol_max);
    if low > high || high == 0 {
        let older = if theirs.protocol_max < ours.protocol_min { "the caller" } else { "this component" };
        return Err(refused(
            RefusedReason::RefusedVersion,
            format!(
                "this {component} ({}) speaks protocol {} to {}, the {} ({}) {} to {}: upgrade {older}",
                ours.software,
                ours.protocol_min,
                ours.protocol_max,
                role_name(theirs.role),
                printable(&theirs.software),
                theirs.protocol_min,
                theirs.protocol_max,
            ),
        ));
    }
    Ok(high)
}

/// A refusal without a leader's address.
pub fn refused(reason: RefusedReason, message: String) -> Refused {
    Refused { reason: reason.into(), message, leader: String::new() }
}

/// How users call a role.
pub fn role_name(role: i32) -> &'static str {
    match Role::try_from(role).unwrap_or(Role::Unspecified) {
        Role::Master => "master",
        Role::Chunkserver => "chunkserver",
        Role::Client => "client",
        Role::Admin => "admin tool",
        Role::Unspecified => "unknown component",
    }
}

/// A peer's text, fit for a log line: cut, and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn of(cluster: u128, min: u32, max: u32) -> Hello {
        let mut hello = hello(ClusterId(Uuid::from_u128(cluster)), NodeId(Uuid::from_u128(9)), Role::Client);
        (hello.protocol_min, hello.protocol_max) = (min, max);
        hello
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        assert_eq!(judge(&of(1, 1, 3), &of(1, 2, 5)), Ok(3));
        assert_eq!(judge(&of(1, 1, 3), &of(0, 1, 1)), Ok(1), "a first contact names no cluster");
    }

    #[test]
    fn another_cluster_is_refused_by_name() {
        let refused = judge(&of(1, 1, 1), &of(2, 1, 1)).unwrap_err();
        assert_eq!(refused.reason(), RefusedReason::RefusedWrongCluster);
        assert!(refused.message.contains(&Uuid::from_u128(2).to_string()), "{}", refused.message);
    }

    #[test]
    fn versions_without_overlap_are_refused_with_the_way_out() {
        let refused = judge(&of(1, 3, 4), &of(1, 1, 2)).unwrap_err();
        assert_eq!(refused.reason(), RefusedReason::RefusedVersion);
        assert!(refused.message.ends_with("upgrade the caller"), "{}", refused.message);
        let refused = judge(&of(1, 1, 2), &of(1, 3, 4)).unwrap_err();
        assert!(refused.message.ends_with("upgrade this component"), "{}", refused.message);
        assert!(judge(&of(1, 1, 1), &of(1, 0, 0)).is_err(), "no version at all");
    }
}
