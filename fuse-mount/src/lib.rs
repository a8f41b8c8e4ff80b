//! The mount: Cairn through the kernel.
//!
//! A request walks `fs` (the kernel's callbacks) → `dispatch` (which thread) → `ops` (what it means) → the client, and its
//! outcome leaves by `respond` → `errno`. `kernel` is the transport: only `fs`, `convert`, `respond`, `session` and
//! `kernel_cache` know its types. `mount` is the life of a mount around that; `place` and `mount_table` deal with the host.

mod convert;
mod credentials;
mod dispatch;
mod errno;
mod fs;
mod handles;
mod kernel;
mod kernel_cache;
mod listing;
mod look_out;
mod metrics;
mod mount;
mod mount_error;
pub mod mount_table;
mod ops;
mod options;
mod place;
mod respond;
mod session;

pub use mount::{Mounted, mount, serve};
pub use mount_error::MountError;
pub use options::{MountFlags, MountOptions, OptionError};
