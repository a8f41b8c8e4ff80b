//! F: every row decodes. A: the member's own books.

use super::decode::{row, table_name};
use super::finding::{Findings, rules};
use super::row::{Applied, Member, Row};
use super::state::{Interrupted, State};
use super::{Looked, hex};
use crate::limits::FEATURE_LEVEL;
use std::collections::BTreeSet;

pub(super) fn check(state: &State<'_>, findings: &mut Findings) -> Result<Looked, Interrupted> {
    let mut looked = Looked::default();
    let (mut applied, mut members) = (None, None);
    let mut rows = state.all();
    while let Some((key, value)) = rows.next()? {
        let table = table_name(&key);
        *looked.0.entry(table).or_insert(0) += 1;
        match row(&key, &value) {
            Ok(Row::Applied(found)) => applied = Some(found),
            Ok(Row::Members(found)) => members = Some(found),
            Ok(_) => {}
            Err(error) => findings.add(rules::F1, format_args!("{table} row, key {}", hex(&key)), error),
        }
    }
    books(applied, members, findings);
    Ok(looked)
}

fn books(applied: Option<Applied>, members: Option<Vec<Member>>, findings: &mut Findings) {
    let Some(applied) = applied else {
        findings.add(rules::A1, "APPLIED row", "it is not there, or cannot be read");
        return;
    };
    let newer = applied.feature > FEATURE_LEVEL;
    findings.expect(
        !newer,
        rules::A1,
        "APPLIED row",
        format_args!("its feature level {} is unknown", applied.feature),
    );
    // A master that was founded alone has an empty row of members, one from before there were groups has none.
    let Some(members) = members.filter(|members| !members.is_empty()) else { return };
    let known: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
    for id in applied.voters.iter().chain(&applied.learners) {
        findings.expect(
            known.contains(id),
            rules::A1,
            format_args!("master {id}"),
            "it follows the journal, but is no member",
        );
    }
    findings.expect(!applied.voters.is_empty(), rules::A1, "APPLIED row", "nobody votes");
}
