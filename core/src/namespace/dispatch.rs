//! One request kind, one room: the two exhaustive matches.

use crate::namespace::answer::Answer;
use crate::namespace::internal::Internal;
use crate::namespace::machine::{Context, Record, Rows, Stop};
use crate::namespace::request::{Operation, Query};

pub(super) fn decide(
    _rows: &dyn Rows,
    _context: &Context<'_>,
    _operation: &Operation,
) -> Result<Record, Stop> {
    Err(Stop::Failed("being built".into()))
}

pub(super) fn query(_rows: &dyn Rows, _context: &Context<'_>, _query: &Query) -> Result<Answer, Stop> {
    Err(Stop::Failed("being built".into()))
}

pub(super) fn decide_internal(
    _rows: &dyn Rows,
    _context: &Context<'_>,
    _command: &Internal,
) -> Result<Record, Stop> {
    Err(Stop::Failed("being built".into()))
}
