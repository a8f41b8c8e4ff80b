//! Storage policies: how many copies of a file there are to be, and on which chunk servers.

use super::labels::{Labels, RACK};
use super::placement::domains;
use super::view::{ClusterView, ServerHealth, ServerView};
use crate::ids::PolicyId;
use crate::limits::{POLICY_NAME_BYTES_MAX, REPLICAS_MAX};
use crate::namespace::chunk_set::minimum_of;
use std::collections::BTreeMap;

/// Name of the policy that everything has which was given no other.
pub const DEFAULT_NAME: &str = "default";

static NO_LABELS: Labels = Labels::none();

/// What is wanted of the chunks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What operators call it: 1 to [`POLICY_NAME_BYTES_MAX`] letters, digits, `.`, `_` or `-`.
    pub name: String,
    /// Copies of each chunk: 1 to [`REPLICAS_MAX`].
    pub replicas: u8,
    /// Fewest copies that a write must reach: 1 to `replicas`.
    pub minimum: u8,
    /// Labels that a chunk server must have to hold a copy, as far as there are such servers.
    pub required: Labels,
}

impl Policy {
    /// What holds while nobody has said anything else.
    pub fn built_in(replicas: u8) -> Self {
        let replicas = replicas.clamp(1, REPLICAS_MAX as u8);
        let (name, minimum) = (DEFAULT_NAME.to_owned(), minimum_of(replicas));
        Self { name, replicas, minimum, required: Labels::default() }
    }

    /// Whether its fields are what they can be.
    pub fn is_sound(&self) -> bool {
        is_name(&self.name)
            && (1..=REPLICAS_MAX).contains(&usize::from(self.replicas))
            && (1..=self.replicas).contains(&self.minimum)
    }

    /// Chunk servers that are alive, stay, and have what it requires; and how many racks they stand in. A server without that
    /// label stands in a rack of its own.
    pub fn servers(&self, view: &ClusterView) -> (usize, usize) {
        let takes = |server: &&ServerView| {
            server.health == ServerHealth::Alive && !server.draining && server.labels.satisfy(&self.required)
        };
        let taken: Vec<&ServerView> = view.servers.values().filter(takes).collect();
        (taken.len(), domains(&taken, RACK))
    }
}

/// Whether a policy may be called so.
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=POLICY_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// The policies at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies(pub BTreeMap<PolicyId, Policy>);

impl Policies {
    /// What the servers of a chunk with this policy must have. Nothing when the policy is not known.
    pub fn required(&self, policy: PolicyId) -> &Labels {
        self.0.get(&policy).map_or(&NO_LABELS, |policy| &policy.required)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_is_told_from_what_cannot() {
        let policy = Policy::built_in(3);
        assert!(policy.is_sound() && policy.minimum == 2 && Policy::built_in(0).replicas == 1);
        for (replicas, minimum) in [(0, 0), (9, 5), (3, 0), (3, 4)] {
            assert!(!Policy { replicas, minimum, ..policy.clone() }.is_sound(), "{replicas} {minimum}");
        }
        for name in ["", "a b", "a/b", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("ssd-2.x_y"));
    }
}
