//! The core simulator: masters, clients and chunk servers as values, in one thread and in simulated time, by seed.
//!
//! The masters are the real sequencer with the real Raft machine, journal and rules, driven by hand (`sequencer/stepped`).

#![allow(clippy::print_stdout, reason = "what was met is told")]

mod canon;
mod chunkserver;
mod client;
mod clock;
mod data;
mod ending;
mod faults;
mod front;
mod home;
mod invariants;
mod member;
mod network;
mod processes;
mod queue;
mod repair;
mod said;
mod seeds;
mod servers;
mod session;
mod shared;
mod trace;
mod world;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
