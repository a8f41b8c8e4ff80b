//! Whole chunk servers on loopback sockets and real directories, with a scripted leader in front.

#![allow(clippy::unwrap_used, reason = "tests")]

mod chain;
mod commands;
mod fixture;
mod hostile;
mod leader;
mod lifetime;
mod seeded;
mod vacate;
