//! What a check finds: which rule does not hold, for what, and what to do.

use crate::limits::FINDINGS_MAX;
use std::fmt;

/// A statement that holds for every sound state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Its number: F rows, A the member's books, N names, M maps, C chunks, H what sessions hold, P storage policies, K counters.
    pub id: &'static str,
    /// The invariant of the whole system that it is part of; empty for mere accounts.
    pub upholds: &'static str,
    /// The statement.
    pub says: &'static str,
    /// What to do when it does not hold.
    pub next: &'static str,
}

/// The state of one member differs from what the group decided, or all are wrong alike.
const COMPARE: &str = "check the other members with `cairn admin fsck DATA_DIR`: let a clean one lead, then \
                       `cairn admin masters replace` this one; wrong on all of them it is a fault of cairn: report it";
/// The data is there, but an account of it is wrong.
const REPORT: &str = "no data is lost by it: report it; `cairn admin fsck DATA_DIR` on the other members says whether they differ";

const fn rule(id: &'static str, upholds: &'static str, says: &'static str, next: &'static str) -> Rule {
    Rule { id, upholds, says, next }
}

/// The rules, in the order in which they are checked.
#[rustfmt::skip]
#[allow(missing_docs, reason = "each says itself what it states")]
pub mod rules {
    use super::{COMPARE, REPORT, Rule, rule};

    pub const F1: Rule = rule("F1", "I31", "every row is of a known table and format and decodes", COMPARE);
    pub const A1: Rule = rule("A1", "I13", "the member's books (APPLIED, MEMBERS) are there, and voters are members", COMPARE);
    pub const A2: Rule = rule("A2", "I14", "the state fits the journal that goes on behind it", COMPARE);
    pub const K1: Rule = rule("K1", "I16", "every number in use is below its counter", COMPARE);
    pub const K2: Rule = rule("K2", "", "the totals are the numbers of rows", REPORT);
    pub const N1: Rule = rule("N1", "I16", "a name has its DENTRY, LISTING and BACKLINK rows, which agree, in a living directory", COMPARE);
    pub const N2: Rule = rule("N2", "I16", "a name leads to an inode of its kind", COMPARE);
    pub const N3: Rule = rule("N3", "I16", "link counts and sizes of directories are what the names say", REPORT);
    pub const N4: Rule = rule("N4", "I16", "inodes without names, and no others, are orphans, but for the root", COMPARE);
    pub const N5: Rule = rule("N5", "I16", "a directory has one name, in its parent, and the parents lead to the root", COMPARE);
    pub const N6: Rule = rule("N6", "I16", "symlinks and nothing else have targets, as long as their size", COMPARE);
    pub const N7: Rule = rule("N7", "", "extended attributes belong to inodes, which count their bytes", REPORT);
    pub const M1: Rule = rule("M1", "I6", "live and garbage ranges of one data id are disjoint", COMPARE);
    pub const M2: Rule = rule("M2", "I6", "an extent lies in one range and, when live, within the file's size", COMPARE);
    pub const M3: Rule = rule("M3", "I6", "extents of one data id do not overlap", COMPARE);
    pub const M4: Rule = rule("M4", "I20", "an extent names a chunk that is there", COMPARE);
    pub const M5: Rule = rule("M5", "", "the mapped bytes of a file are those of its extents", REPORT);
    pub const C1: Rule = rule("C1", "I20", "a chunk counts the extents that name it, and has an owner exactly while there are none", COMPARE);
    pub const C2: Rule = rule("C2", "I21", "the set of a chunk is not empty, names registered servers once each, and agrees with SERVER_CHUNK", COMPARE);
    pub const C3: Rule = rule("C3", "I20", "no replica that counts is to be deleted", COMPARE);
    pub const C4: Rule = rule("C4", "I21", "chunks under reconciliation or with a version begun, and no others, are work", REPORT);
    pub const C5: Rule = rule("C5", "I9", "each chunk server has one number", COMPARE);
    pub const C6: Rule = rule("C6", "", "chunks whose set is not of the size that is wanted, and no others, are to be repaired", REPORT);
    pub const C7: Rule = rule("C7", "", "a disk that is to be emptied is one of a chunk server that is there", REPORT);
    pub const H1: Rule = rule("H1", "I9", "a lease is a session's, is in its index, has the inode's last number and counts its marks", COMPARE);
    pub const H2: Rule = rule("H2", "I20", "chunks that are not attached are exactly those of living sessions", COMPARE);
    pub const P1: Rule = rule("P1", "", "a policy counts the files, directories and chunks that have it, and is there while any has", REPORT);
    pub const P2: Rule = rule("P2", "", "policies are called differently, and only the default one so", REPORT);
    pub const H3: Rule = rule("H3", "I15", "slots belong to sessions, and their answers can be given again", COMPARE);
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// For what.
    pub object: String,
    /// How.
    pub wrong: String,
}

/// The first [`FINDINGS_MAX`] findings; the others are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    total: u64,
}

impl Findings {
    /// Notes a finding.
    pub fn add(&mut self, rule: Rule, object: impl fmt::Display, wrong: impl fmt::Display) {
        self.total += 1;
        if self.list.len() < FINDINGS_MAX {
            self.list.push(Finding { rule, object: object.to_string(), wrong: wrong.to_string() });
        }
    }

    /// Notes a finding unless it holds.
    pub(super) fn expect(
        &mut self,
        holds: bool,
        rule: Rule,
        object: impl fmt::Display,
        wrong: impl fmt::Display,
    ) {
        if !holds {
            self.add(rule, object, wrong);
        }
    }

    /// Notes a finding unless both numbers are equal.
    pub(super) fn equal(
        &mut self,
        rule: Rule,
        object: impl fmt::Display,
        what: &str,
        stored: impl Into<u64>,
        counted: impl Into<u64>,
    ) {
        let (stored, counted) = (stored.into(), counted.into());
        if stored != counted {
            self.add(rule, object, format_args!("{what} {stored}, counted {counted}"));
        }
    }

    /// Those that are kept.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.total
    }
}
