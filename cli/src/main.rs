//! `cairn`: the one binary that runs and operates everything.

/// glibc's default returns large buffers to the kernel at every free, which cost 40 % of bulk throughput in measurements.
/// It also serves RocksDB (feature `override`): in glibc's arenas, one for each thread, the master's cache took twice its size.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cairn_cli::main()
}
