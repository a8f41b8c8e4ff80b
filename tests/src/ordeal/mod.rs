//! A cluster that suffers faults of every kind at random while programs work on it and know what must come of it.
//!
//! - `schedule`: what happens when, from a seed: pure.
//! - `stage`: the cluster: real processes on machines of their own, with disks that fail on command; `process`: one of them.
//! - `strike`: how a fault is inflicted on it, and what ends it.
//! - `programs`: what works on the mounts, each with its oracle; `crew`: their threads, and what is seen of them.
//! - `losses`: which servers had something wrong lately, which says what errors a program may meet.
//! - `health`: what a cluster lacks that is to be wholly sound.

pub mod crew;
pub mod health;
pub mod losses;
pub mod process;
pub mod programs;
pub mod schedule;
pub mod stage;
pub mod strike;
