//! The pages that every process serves, as a Prometheus server reads them.

use crate::Cluster;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Status and text of `http://ADDRESS/PATH`.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, text.to_owned())
}

/// A page of one process of a cluster.
pub fn of(cluster: &Cluster, process: &str, path: &str) -> (u16, String) {
    let address = cluster.process(process).http.unwrap_or_else(|| panic!("{process} serves no pages"));
    get(&address, path)
}

/// Values of a page of metrics, by series as written: `name{a="b"}`.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<String, f64>);

impl Values {
    /// Those of the present.
    pub fn of(cluster: &Cluster, process: &str) -> Self {
        let (status, page) = of(cluster, process, "/metrics");
        assert_eq!(status, 200, "{page}");
        Self::read(&page)
    }

    /// Those of a page.
    pub fn read(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        });
        Self(values.collect())
    }

    /// Of one series, which must be there.
    pub fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no series {series} in {:#?}", self.0))
    }

    /// What is wrong with the histograms: of each series the buckets must add up, and end with one for all.
    pub fn wrong_histograms(&self) -> Vec<String> {
        let mut buckets: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.0 {
            let Some((name, labels)) = series.split_once("_bucket{") else { continue };
            let labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
            let bound =
                |label: &&str| label.strip_prefix("le=").map(|bound| bound.trim_matches('"').to_owned());
            let bounds: Vec<String> = labels.iter().filter_map(bound).collect();
            // "+Inf" is a number to the standard library as well.
            let bound: f64 = bounds.concat().parse().unwrap_or(f64::NAN);
            let others: Vec<&str> = labels.into_iter().filter(|label| !label.starts_with("le=")).collect();
            buckets.entry((name.to_owned(), others.join(","))).or_default().push((bound, *value));
        }
        let mut wrong = Vec::new();
        for ((name, labels), mut counts) in buckets {
            counts.sort_by(|a, b| a.0.total_cmp(&b.0));
            let of_all = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let count = self.0.get(&format!("{name}_count{of_all}"));
            let last = counts.last().map(|last| last.1);
            if counts.last().is_none_or(|last| last.0 != f64::INFINITY) || last.as_ref() != count {
                wrong.push(format!("{name}{of_all} has {count:?} in all and ends with {:?}", counts.last()));
            }
            if !counts.is_sorted_by(|before, after| before.1 <= after.1) {
                wrong.push(format!("{name}{of_all} does not add up: {counts:?}"));
            }
        }
        wrong
    }

    /// How many histograms there are.
    pub fn histograms(&self) -> usize {
        self.0.keys().filter(|series| series.contains("le=\"+Inf\"")).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_without_an_end_or_that_shrink_are_found() {
        let page = |buckets: &str| Values::read(&format!("# HELP x y\n{buckets}x_count{{k=\"a\"}} 3\n"));
        let good = page("x_bucket{le=\"0.5\",k=\"a\"} 1\nx_bucket{le=\"+Inf\",k=\"a\"} 3\n");
        assert_eq!((good.wrong_histograms(), good.histograms()), (vec![], 1));
        for bad in [
            "x_bucket{le=\"0.5\",k=\"a\"} 1\nx_bucket{le=\"1.7e308\",k=\"a\"} 3\n",
            "x_bucket{le=\"0.5\",k=\"a\"} 1\nx_bucket{le=\"+Inf\",k=\"a\"} 2\n",
            "x_bucket{le=\"0.5\",k=\"a\"} 4\nx_bucket{le=\"+Inf\",k=\"a\"} 3\n",
        ] {
            assert_eq!(page(bad).wrong_histograms().len(), 1, "{bad}");
        }
    }
}
