//! Moving replicas because an operator wants it: emptying chunk servers, evening them out. `work/repair` and `work/replicate` carry
//! it out; here it is planned, begun, ended and told of.

pub(crate) mod disk_drain;
pub(crate) mod drain;
pub(crate) mod rebalance;
pub(crate) mod whatif;
