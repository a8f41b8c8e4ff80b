//! I32: the check for operators, with a decoder of its own, agrees that every master's state is sound.

use crate::remains::Remains;
use cairn_core::fsck;

/// What is wrong with the states that the masters leave.
pub(crate) fn check(masters: &[Remains]) -> Vec<String> {
    let mut broken = Vec::new();
    for master in masters {
        let report = fsck::check(master, &|| true).unwrap();
        let say = |finding: &fsck::Finding| {
            let fsck::Finding { rule, object, wrong } = finding;
            format!("I32: state of master {}: {} ({}): {object}: {wrong}", master.id, rule.id, rule.says)
        };
        broken.extend(report.findings.list().iter().take(3).map(say));
    }
    broken
}
