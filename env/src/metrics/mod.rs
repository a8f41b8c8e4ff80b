//! What pages of metrics are made of: figures that any thread counts without a lock, and their words in the text format of
//! Prometheus.

mod spans;

pub use spans::{SpanCounts, Spans};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// Names and values of the labels of one series.
pub type Labels<const N: usize> = [(&'static str, String); N];

/// A counter.
///
/// # Errors
/// Those of the page's writer, as with all functions here; a string has none.
pub fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A gauge.
///
/// # Errors
/// As [`counter`].
pub fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstGauge::new(shown(value));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A counter for each set of labels.
///
/// # Errors
/// As [`counter`].
pub fn counters<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<N>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A gauge for each set of labels.
///
/// # Errors
/// As [`counter`].
pub fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<N>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(shown(value)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A histogram. Its name says its unit: seconds.
///
/// # Errors
/// As [`counter`].
pub fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: &SpanCounts,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(counts.sum, counts.count, &counts.buckets, None)
}

/// A histogram for each kind of something.
///
/// # Errors
/// As [`counter`].
pub fn histograms(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kinds: impl IntoIterator<Item = (&'static str, SpanCounts)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (kind, counts) in kinds {
        let labels = [("kind", kind)];
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<NoLabelSet>(counts.sum, counts.count, &counts.buckets, None)?;
    }
    Ok(())
}

/// The page of all that is registered.
pub fn page(registry: &Registry) -> String {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => text,
        Err(error) => format!("# metrics could not be encoded: {error}\n# EOF\n"),
    }
}

/// To be registered: figures that are read when they are shown.
pub fn present<F>(figures: F) -> Box<dyn Collector>
where
    F: Fn(&mut DescriptorEncoder<'_>) -> fmt::Result + Send + Sync + 'static,
{
    Box::new(Present(figures))
}

struct Present<F>(F);

impl<F> fmt::Debug for Present<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Present").finish_non_exhaustive()
    }
}

impl<F> Collector for Present<F>
where
    F: Fn(&mut DescriptorEncoder<'_>) -> fmt::Result + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut encoder)
    }
}

fn shown(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_histogram_ends_with_a_bucket_for_all() {
        let spans = Spans::default();
        [1, 2, 99_000].into_iter().for_each(|millis| spans.add(Duration::from_millis(millis)));
        let mut registry = Registry::with_prefix("test");
        registry.register_collector(present(move |encoder| {
            histogram(encoder, "wait_seconds", "Waits", &spans.counts())?;
            counters(encoder, "errors", "Errors", [([("class", "io".to_owned())], 7)])
        }));
        let page = page(&registry);
        let lines: Vec<&str> = page.lines().collect();
        for line in [
            "test_wait_seconds_count 3",
            "test_wait_seconds_bucket{le=\"0.001\"} 1",
            "test_wait_seconds_bucket{le=\"10.0\"} 2",
            "test_wait_seconds_bucket{le=\"+Inf\"} 3",
            "test_errors_total{class=\"io\"} 7",
        ] {
            assert!(lines.contains(&line), "{line} in {page}");
        }
    }
}
