//! Linearizability of a history (Herlihy and Wing, 1990): the search of Wing and Gong with the memory of Lowe. A call without an
//! answer may have taken effect at any time after it began, or never.

use std::collections::BTreeSet;

/// What a history is a history of.
pub(crate) trait Model: Clone + Ord {
    /// An operation with its outcome; `None`: not known.
    type Call;

    /// The state after the call, if the call may have come to this in this state.
    fn after(&self, call: &Self::Call) -> Option<Self>;
}

/// One call of a history; times in any unit.
pub(crate) struct Span<C> {
    pub(crate) call: C,
    pub(crate) begun: u64,
    /// `None`: it never answered.
    pub(crate) ended: Option<u64>,
}

/// Which calls have taken effect, and what came of it.
type Seen<M> = BTreeSet<(Vec<u64>, M)>;

/// Whether some order of the calls, each between its begin and its end, explains every outcome.
pub(crate) fn is_linearizable<M: Model>(initial: M, history: &[Span<M::Call>]) -> bool {
    let mut done = vec![0; history.len().div_ceil(64)];
    search(&initial, history, &mut done, &mut BTreeSet::new())
}

fn search<M: Model>(state: &M, history: &[Span<M::Call>], done: &mut Vec<u64>, seen: &mut Seen<M>) -> bool {
    let open = |done: &[u64], at: usize| done[at / 64] & (1 << (at % 64)) == 0;
    let earliest_end =
        (0..history.len()).filter(|&at| open(done, at)).filter_map(|at| history[at].ended).min();
    let Some(earliest_end) = earliest_end else { return true };
    if !seen.insert((done.clone(), state.clone())) {
        return false;
    }
    for at in 0..history.len() {
        if !open(done, at) || history[at].begun > earliest_end {
            continue;
        }
        if let Some(after) = state.after(&history[at].call) {
            done[at / 64] |= 1 << (at % 64);
            if search(&after, history, done, seen) {
                return true;
            }
            done[at / 64] &= !(1 << (at % 64));
        }
    }
    false
}

/// A register: the last value written is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Register(pub(crate) Option<u64>);

/// A call of a register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RegisterCall {
    Write(u64),
    Read(Option<u64>),
}

impl Model for Register {
    type Call = RegisterCall;

    fn after(&self, call: &RegisterCall) -> Option<Self> {
        match *call {
            RegisterCall::Write(value) => Some(Self(Some(value))),
            RegisterCall::Read(value) => (self.0 == value).then(|| self.clone()),
        }
    }
}

/// A name that is made exclusively and removed; the inode tells one life of it from the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameState(pub(crate) bool);

/// A call on a name; `None`: its outcome is not known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NameCall {
    /// True: made; false: it was there.
    Make(Option<bool>),
    /// True: removed; false: it was not there.
    Remove(Option<bool>),
    Look(bool),
}

impl Model for NameState {
    type Call = NameCall;

    fn after(&self, call: &NameCall) -> Option<Self> {
        let NameState(there) = *self;
        match *call {
            NameCall::Make(done) => (done.is_none_or(|done| done != there)).then_some(Self(true)),
            NameCall::Remove(done) => (done.is_none_or(|done| done == there)).then_some(Self(false)),
            NameCall::Look(seen) => (seen == there).then_some(Self(there)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(call: RegisterCall, begun: u64, ended: Option<u64>) -> Span<RegisterCall> {
        Span { call, begun, ended }
    }

    #[test]
    fn what_overlaps_may_come_in_any_order_and_nothing_goes_back() {
        use RegisterCall::{Read, Write};
        let both =
            [span(Write(1), 0, Some(10)), span(Write(2), 5, Some(15)), span(Read(Some(1)), 16, Some(20))];
        assert!(is_linearizable(Register(None), &both));
        let stale =
            [span(Write(1), 0, Some(10)), span(Write(2), 11, Some(15)), span(Read(Some(1)), 16, Some(20))];
        assert!(!is_linearizable(Register(None), &stale));
        let back = [
            span(Write(1), 0, Some(10)),
            span(Write(2), 11, None),
            span(Read(Some(2)), 16, Some(20)),
            span(Read(Some(1)), 21, Some(25)),
        ];
        assert!(!is_linearizable(Register(None), &back));
        let never = [span(Write(2), 11, None), span(Read(None), 16, Some(20))];
        assert!(is_linearizable(Register(None), &never));
    }

    #[test]
    fn a_name_is_made_once() {
        use NameCall::{Look, Make, Remove};
        let call = |call, begun, ended| Span { call, begun, ended: Some(ended) };
        let twice = [call(Make(Some(true)), 0, 5), call(Make(Some(true)), 6, 9)];
        assert!(!is_linearizable(NameState(false), &twice));
        let lives = [call(Make(Some(true)), 0, 5), call(Remove(Some(true)), 6, 9), call(Look(false), 10, 11)];
        assert!(is_linearizable(NameState(false), &lives));
    }
}
