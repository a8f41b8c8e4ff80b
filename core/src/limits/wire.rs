//! Processes and their connections.

use std::time::Duration;

/// Largest configuration file that is read: the annotated default is a tenth of it, and a wrong path must not fill the memory.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Most threads of one process's runtime: beyond, waking each other costs more than they carry.
pub const RUNTIME_THREADS_MAX: usize = 16;

/// A connection not made in this time is given up: far above a round trip in one data centre, below a user's patience.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// A TCP peer whose machine is silent for so long is gone; the backstop below every protocol's own, shorter deadline.
pub const TCP_DEAD_PEER: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no descriptors left), so that a full process does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// HTTP/2 ping period, idle connections included: a frozen peer is noticed while nobody asks it anything.
pub const GRPC_KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(1000);
/// An unanswered HTTP/2 ping closes the connection after so long; a stalled but living peer must survive a busy second.
pub const GRPC_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(2000);
/// HTTP/2 window of one stream: two control messages of the largest kind are in flight at most.
pub const GRPC_STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// HTTP/2 window of one connection: the stream that carries the session, and a few admin calls.
pub const GRPC_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Most concurrent gRPC streams of one connection: one session stream and some admin calls.
pub const GRPC_STREAMS_PER_CONNECTION_MAX: u32 = 256;
