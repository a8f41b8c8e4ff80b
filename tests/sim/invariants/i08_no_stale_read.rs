//! I8: a read that began after a write was acknowledged sees it, at whatever master, also after that master was stopped for longer
//! than its lease: the registers that all clients use have one history.

use crate::linear::{Register, RegisterCall, Span, is_linearizable};

/// What is wrong with the history of a register.
pub(crate) fn check(register: u64, history: &[Span<RegisterCall>]) -> Option<String> {
    (!is_linearizable(Register(None), history))
        .then(|| format!("I8: the history of register {register} has no order: {}", super::show(history)))
}
