//! Single cases that a random walk would seldom meet.
