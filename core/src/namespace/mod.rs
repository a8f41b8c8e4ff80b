//! The namespace as a log machine: `decide` turns a request into a record or a refusal; applying writes the record's rows.
//!
//! [`machine`] is the entry. One act is one room (`decide_*`), one kind of question another (`query_*`); they share the
//! [`act`] in the making, [`permission`], and what acts on several tables at once: `entries` (names), `extents` (maps),
//! `chunk_set` (chunks), `leases`. [`rows`] draws every row. [`check`] states what holds for every state.

pub(crate) mod act;
pub mod alignment;
pub mod answer;
pub mod attr;
pub mod check;
pub mod chunk_set;
mod decide_allocate;
mod decide_attrs;
mod decide_capacity;
mod decide_chunks;
mod decide_commit;
mod decide_create;
mod decide_garbage;
mod decide_lease;
mod decide_link;
mod decide_orphans;
mod decide_policy;
mod decide_rebalance;
mod decide_rename;
pub(crate) mod decide_replace;
mod decide_servers;
mod decide_sessions;
mod decide_unlink;
mod decide_xattr;
pub(crate) mod dispatch;
pub mod draft;
mod entries;
pub(crate) mod extents;
pub mod internal;
mod leases;
pub mod machine;
pub mod memory;
#[cfg(test)]
mod model_test;
pub mod name;
pub mod name_page;
mod permission;
pub mod policies;
mod query_attrs;
mod query_map;
mod query_names;
pub mod request;
pub mod rows;
pub mod work;
