//! I16: operations on names are atomic and linearizable: a name is made once, exclusively, and removed once.

use crate::linear::{NameCall, NameState, Span, is_linearizable};

/// What is wrong with the history of a name.
pub(crate) fn check(name: u64, history: &[Span<NameCall>]) -> Option<String> {
    (!is_linearizable(NameState(false), history))
        .then(|| format!("I16: the history of name {name} has no order: {}", super::show(history)))
}
