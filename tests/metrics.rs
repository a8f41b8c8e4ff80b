//! What stands at `/metrics`: every metric explains itself, and every expression of docs/grafana-dashboard.json and docs/alerts.yaml
//! names only what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cairn_tests::pages::{self, Values};
use cairn_tests::promql;
use cairn_tests::{Cluster, ClusterOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Metrics by name; of each, every value of every label.
type Shown = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn page(cluster: &Cluster, name: &str) -> String {
    pages::of(cluster, name, "/metrics").1
}

/// `name{a="b"} 1`
fn note(line: &str, shown: &mut Shown) {
    let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
    let labels = shown.entry(name.to_owned()).or_default();
    let Some(inside) = rest.strip_prefix('{') else { return };
    let pairs = inside.split_once('}').unwrap().0;
    for pair in pairs.split("\",").filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once("=\"").unwrap();
        labels.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
    }
}

/// All pages; each metric must have its help, and each histogram its end.
fn shown(cluster: &Cluster) -> Shown {
    let mut shown = Shown::new();
    for process in cluster.ps() {
        let page = page(cluster, &process.name);
        let values = Values::read(&page);
        assert_eq!(values.wrong_histograms(), Vec::<String>::new(), "{}", process.name);
        assert!(values.histograms() > 0, "{} has no histogram", process.name);
        let helped: BTreeSet<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
            .filter(|(_, help)| help.len() > 10)
            .map(|(name, _)| name)
            .collect();
        for line in page.lines().filter(|line| line.starts_with("cairn_")) {
            let name = &line[..line.find(['{', ' ']).unwrap()];
            let suffixes = ["", "_total", "_bucket", "_sum", "_count"];
            let has_help = suffixes
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .any(|family| helped.contains(family));
            assert!(has_help, "{name} of {} has no help text", process.name);
            note(line, &mut shown);
        }
    }
    shown
}

/// Every `"expr"` of the dashboard.
fn dashboard() -> Vec<String> {
    fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        serde_json::Value::String(text) if name == "expr" => found.push(text.clone()),
                        value => collect(value, found),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let text = fs::read_to_string(docs("grafana-dashboard.json")).unwrap();
    collect(&serde_json::from_str(&text).unwrap(), &mut found);
    found
}

/// Every `expr:` of the rules, each on a line of its own.
fn rules() -> Vec<String> {
    let text = fs::read_to_string(docs("alerts.yaml")).unwrap();
    let all: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect();
    let alerts = text.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
    assert_eq!(all.len(), alerts, "an alert without an expression, or one over several lines");
    all
}

/// What is wrong with an expression.
fn wrong(expression: &str, shown: &Shown) -> Vec<String> {
    let names = match promql::names(expression) {
        Ok(names) => names,
        Err(error) => return vec![error],
    };
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for selector in &names.selectors {
        let Some(labels) = shown.get(&selector.metric) else {
            wrong.push(format!("no metric {}", selector.metric));
            continue;
        };
        known.extend(labels.keys().cloned());
        for (label, value) in &selector.labels {
            match (labels.get(label), value) {
                (None, _) => wrong.push(format!("{} has no label {label}", selector.metric)),
                (Some(values), Some(value)) if !values.contains(value) => {
                    wrong.push(format!("{} has no {label}={value:?}, but {values:?}", selector.metric));
                }
                _ => {}
            }
        }
    }
    // Those two are what a Prometheus server adds to everything that it scrapes.
    known.extend(["instance".to_owned(), "job".to_owned()]);
    wrong.extend(names.grouped_by.difference(&known).map(|label| format!("no label {label}")));
    wrong.into_iter().map(|wrong| format!("{wrong}: {expression}")).collect()
}

#[test]
fn dashboard_and_rules_name_only_what_is_there() {
    let cluster = Cluster::up(ClusterOptions { masters: 3, chunkservers: 3, replicas: 3 });
    let backup = cluster.root().join("backup");
    fs::create_dir(&backup).unwrap();
    for name in ["master-1", "master-2", "master-3"] {
        let path = cluster.root().join(name).join("config.toml");
        let config = fs::read_to_string(&path).unwrap();
        let lines = config.lines().filter(|line| !line.starts_with("backup = "));
        let config = lines.collect::<Vec<_>>().join("\n");
        fs::write(&path, format!("backup = \"file://{}\"\n{config}\n", backup.display())).unwrap();
        cluster.stop(name);
        cluster.start(name);
    }
    for number in 0..20 {
        let path = cluster.mount().join(format!("f{number}"));
        fs::write(&path, vec![number; 100_000]).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 100_000);
    }
    fs::rename(cluster.mount().join("f1"), cluster.mount().join("g")).unwrap();
    cluster.remount();
    assert_eq!(fs::read(cluster.mount().join("g")).unwrap(), vec![1; 100_000]);
    let expressions = [dashboard(), rules()].concat();
    assert!(expressions.len() > 30, "only {} expressions found: the search is broken", expressions.len());
    let begun = Instant::now();
    loop {
        let shown = shown(&cluster);
        let mut wrong: Vec<String> =
            expressions.iter().flat_map(|expression| wrong(expression, &shown)).collect();
        let counted = page(&cluster, &cluster.leader()).contains("cairn_master_chunks 2");
        if !counted {
            wrong.push("chunks are not counted yet".to_owned());
        }
        if wrong.is_empty() {
            return;
        }
        // Counts and the backup take some seconds after a leader's start.
        assert!(begun.elapsed() < Duration::from_secs(30), "{wrong:#?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
