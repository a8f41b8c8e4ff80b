//! What a cluster lacks that is to be wholly sound.

use super::stage::{DISKS, MASTERS, SERVERS, Stage};
use serde_json::Value;

/// What of the answer of `admin status` is not as in a cluster where all is well; empty: it is sound.
pub fn lacks(status: &Value) -> Vec<String> {
    let mut lacking = Vec::new();
    let servers = SERVERS.len() as u64;
    let mut expect = |what: &str, found: &Value, wanted: Value| {
        if *found != wanted {
            lacking.push(format!("{what}: {found}"));
        }
    };
    expect("servers", &status["server_states"], serde_json::json!({ "alive": servers }));
    expect("disks", &status["disk_states"], serde_json::json!({ "healthy": servers * u64::from(DISKS) }));
    let followers = MASTERS.len() as u64 - 1;
    expect("masters", &status["master_states"], serde_json::json!({ "leader": 1, "follower": followers }));
    expect("chunks without all copies", &status["chunks_short"], serde_json::json!({}));
    for counter in [
        "corrupt_replicas",
        "short_chunks",
        "replicas_on_dead",
        "repairs_waiting",
        "repairs_under_way",
        "pending_deletions",
        "pending_reconciliations",
    ] {
        expect(counter, &status[counter], 0.into());
    }
    lacking
}

impl Stage {
    /// What is lacking now.
    pub fn lacks(&mut self) -> Vec<String> {
        match self.ask_json("admin status") {
            Some(status) => lacks(&status),
            None => vec!["`admin status` is not answered".to_owned()],
        }
    }

    /// What operators would look at, for whoever reads of a failure.
    pub fn account(&mut self) -> String {
        let mut account = self.ended.join("\n");
        for question in
            ["admin status", "admin servers", "admin masters", "admin fsck", "admin chunks /", "admin events"]
        {
            let answer = self.ask(question).unwrap_or_else(|| "no answer".to_owned());
            // Whole beside the logs, as some are long.
            let file = self.root().join(question.replace([' ', '/'], "-"));
            drop(std::fs::write(file, &answer));
            let lines: Vec<_> = answer.lines().collect();
            let last = lines[lines.len().saturating_sub(100)..].join("\n");
            account += &format!("\n--- {question}\n{last}");
        }
        account
    }
}
