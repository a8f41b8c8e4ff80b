//! `admin fsck`: whether the metadata is sound, asked of the leader or seen in a stopped master's directory.

use crate::connect::Admin;
use crate::error::CliError;
use crate::output;
use cairn_core::fsck::{Finding, Report};
use cairn_env::Env;
use cairn_master::offline::{Examined, Stopped, examine};
use cairn_proto::v1::{FsckFinding, FsckRequest, FsckSummary};
use std::collections::BTreeMap;
use std::path::Path;

/// One finding, from wherever.
struct Row {
    rule: String,
    upholds: String,
    says: String,
    object: String,
    wrong: String,
    next: String,
}

impl From<FsckFinding> for Row {
    fn from(finding: FsckFinding) -> Self {
        let FsckFinding { rule, upholds, says, object, wrong, next } = finding;
        Self { rule, upholds, says, object, wrong, next }
    }
}

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        Self {
            rule: finding.rule.id.to_owned(),
            upholds: finding.rule.upholds.to_owned(),
            says: finding.rule.says.to_owned(),
            object: finding.object.clone(),
            wrong: finding.wrong.clone(),
            next: finding.rule.next.to_owned(),
        }
    }
}

/// What is shown.
struct Verdict {
    rows: Vec<Row>,
    total: u64,
    tables: BTreeMap<String, u64>,
    /// Whose state was looked at, and how.
    of: String,
}

/// Asks the leader.
pub(super) async fn live(admin: &mut Admin, json: bool) -> Result<(), CliError> {
    let mut pages = match admin.client.fsck(FsckRequest {}).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    let (mut rows, mut summary) = (Vec::new(), None);
    loop {
        match pages.message().await {
            Ok(Some(page)) => {
                rows.extend(page.findings.into_iter().map(Row::from));
                summary = summary.or(page.summary);
            }
            Ok(None) => break,
            Err(status) => return Err(admin.failed(&status)),
        }
    }
    let Some(FsckSummary { findings, tables }) = summary else {
        let message = "the check came to no end: ask again".to_owned();
        return Err(CliError::Admin { address: admin.address.clone(), message });
    };
    let tables = tables.into_iter().map(|table| (table.table, table.rows)).collect();
    let of = format!("leader {}, while it works", admin.address);
    show(json, &Verdict { rows, total: findings, tables, of })
}

/// Looks into a directory.
pub(super) fn offline(env: &Env, json: bool, data_dir: &Path) -> Result<(), CliError> {
    let service = |error: cairn_master::offline::OfflineError| CliError::Service(error.to_string());
    let stopped = Stopped::open(env, data_dir).map_err(service)?;
    let Examined { report, flushed, replayed, last } = examine(env, &stopped).map_err(service)?;
    let Report { findings, looked } = report;
    let of = format!(
        "{}: flushed to entry {}, journal applied to {} of {}",
        data_dir.display(),
        flushed.get(),
        replayed.get(),
        last.get()
    );
    let rows = findings.list().iter().map(Row::from).collect();
    let tables = looked.0.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect();
    show(json, &Verdict { rows, total: findings.total(), tables, of })
}

fn show(json: bool, verdict: &Verdict) -> Result<(), CliError> {
    let Verdict { rows, total, tables, of } = verdict;
    if json {
        let findings: Vec<_> = rows.iter().map(as_json).collect();
        let value = serde_json::json!({ "of": of, "findings": findings, "total": total, "tables": tables });
        output::json(&value)?;
    } else {
        print(rows, *total, tables, of);
    }
    match total {
        0 => Ok(()),
        1 => Err(CliError::Failed("the metadata is not sound: 1 finding".to_owned())),
        many => Err(CliError::Failed(format!("the metadata is not sound: {many} findings"))),
    }
}

fn as_json(row: &Row) -> serde_json::Value {
    serde_json::json!({
        "rule": row.rule, "upholds": row.upholds, "says": row.says, "object": row.object, "wrong": row.wrong,
        "next": row.next,
    })
}

fn print(rows: &[Row], total: u64, tables: &BTreeMap<String, u64>, of: &str) {
    if !rows.is_empty() {
        let mut table = output::Table::new(&["RULE", "OBJECT", "WHAT IS WRONG"]);
        for row in rows {
            table.row(vec![row.rule.clone(), row.object.clone(), row.wrong.clone()]);
        }
        table.print();
        // What a rule says and what to do is the same for all its findings.
        let rules: BTreeMap<&str, &Row> = rows.iter().map(|row| (&row.rule[..], row)).collect();
        for (rule, row) in rules {
            let upholds = if row.upholds.is_empty() { String::new() } else { format!(" ({})", row.upholds) };
            output::line(&format!("\n{rule}{upholds}: {}\n  {}", row.says, row.next));
        }
        output::line("");
    }
    let shown = rows.len() as u64;
    if shown < total {
        output::line(&format!("{} more findings are not shown", total - shown));
    }
    let looked: u64 = tables.values().sum();
    let counts: Vec<String> = tables.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
    output::line(&format!("{of}\n{looked} rows looked at: {}", counts.join(", ")));
    if total == 0 {
        output::line("clean");
    }
}
