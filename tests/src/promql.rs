//! Which metrics, labels and label values an expression of PromQL names. Knows what the dashboard and the rules use, and refuses
//! everything else.

use std::collections::BTreeSet;

/// A metric as an expression names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Its name.
    pub metric: String,
    /// Labels that it is selected by: name, and the value where it is compared for equality.
    pub labels: Vec<(String, Option<String>)>,
}

/// All that an expression names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In the order of the text.
    pub selectors: Vec<Selector>,
    /// Labels of `by`, `without`, `on` and `ignoring`.
    pub grouped_by: BTreeSet<String>,
}

const FUNCTIONS: [&str; 14] = [
    "sum",
    "max",
    "max_over_time",
    "min",
    "avg",
    "count",
    "rate",
    "increase",
    "histogram_quantile",
    "absent",
    "changes",
    "delta",
    "clamp_min",
    "topk",
];
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 3] = ["and", "or", "unless"];

/// Reads an expression.
///
/// # Errors
/// What of it is unknown.
pub fn names(expression: &str) -> Result<Names, String> {
    let mut reader = Reader { rest: expression, whole: expression };
    let mut names = Names::default();
    loop {
        reader.skip_space();
        let Some(next) = reader.rest.chars().next() else { return Ok(names) };
        if next.is_ascii_alphabetic() || next == '_' || next == ':' {
            let word = reader.word();
            reader.skip_space();
            if GROUPINGS.contains(&word.as_str()) {
                names.grouped_by.extend(reader.label_list()?);
            } else if reader.rest.starts_with('(') {
                if !FUNCTIONS.contains(&word.as_str()) && !WORDS.contains(&word.as_str()) {
                    return reader.unknown(&format!("function {word}"));
                }
            } else if !WORDS.contains(&word.as_str()) && !FUNCTIONS.contains(&word.as_str()) {
                let labels = if reader.rest.starts_with('{') { reader.matchers()? } else { Vec::new() };
                names.selectors.push(Selector { metric: word, labels });
            } else if FUNCTIONS.contains(&word.as_str()) && !reader.is_grouping() {
                return reader.unknown(&format!("{word} without its argument"));
            }
        } else if next.is_ascii_digit() {
            reader.take(|c| c.is_ascii_digit() || c == '.');
        } else if next == '[' {
            reader.range()?;
        } else if "+-*/%<>=!(),".contains(next) {
            reader.rest = &reader.rest[1..];
        } else {
            return reader.unknown(&format!("{next:?}"));
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
    whole: &'t str,
}

impl Reader<'_> {
    fn unknown<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("{what} is unknown, before {:?} in {:?}", self.rest, self.whole))
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_owned()
    }

    fn word(&mut self) -> String {
        self.take(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    }

    /// `sum by (a) (…)`: the grouping stands before the argument.
    fn is_grouping(&self) -> bool {
        GROUPINGS.iter().any(|word| self.rest.starts_with(word))
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        self.skip_space();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => self.unknown(&format!("what is not {text:?}")),
        }
    }

    /// `(a, b)`
    fn label_list(&mut self) -> Result<Vec<String>, String> {
        self.expect("(")?;
        let mut labels = Vec::new();
        loop {
            self.skip_space();
            let label = self.word();
            if !label.is_empty() {
                labels.push(label);
            }
            self.skip_space();
            if self.rest.starts_with(',') {
                self.expect(",")?;
            } else {
                self.expect(")")?;
                return Ok(labels);
            }
        }
    }

    /// `{a="x", b!="y", c=~"z"}`
    fn matchers(&mut self) -> Result<Vec<(String, Option<String>)>, String> {
        self.expect("{")?;
        let mut labels = Vec::new();
        loop {
            self.skip_space();
            let label = self.word();
            if !label.is_empty() {
                self.skip_space();
                let operator = self.take(|c| "=!~".contains(c));
                self.expect("\"")?;
                let value = self.take(|c| c != '"' && c != '\\');
                self.expect("\"")?;
                match operator.as_str() {
                    "=" => labels.push((label, Some(value))),
                    "!=" | "=~" | "!~" => labels.push((label, None)),
                    other => return self.unknown(&format!("operator {other:?}")),
                }
            }
            self.skip_space();
            if self.rest.starts_with(',') {
                self.expect(",")?;
            } else {
                self.expect("}")?;
                return Ok(labels);
            }
        }
    }

    /// `[5m]`
    fn range(&mut self) -> Result<(), String> {
        self.expect("[")?;
        let (digits, unit) = (self.take(|c| c.is_ascii_digit()), self.take(|c| c.is_ascii_alphabetic()));
        if digits.is_empty() || !["s", "m", "h", "d"].contains(&unit.as_str()) {
            return self.unknown(&format!("range {digits}{unit}"));
        }
        self.expect("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values_are_found() {
        let text = r#"histogram_quantile(0.99, sum by (le, kind) (rate(a_bucket{kind!="x", op="y"}[5m]))) > 2 * b and on (z) c"#;
        let found = names(text).unwrap();
        let metrics: Vec<&str> = found.selectors.iter().map(|selector| selector.metric.as_str()).collect();
        assert_eq!(metrics, ["a_bucket", "b", "c"]);
        let labels = [("kind".to_owned(), None), ("op".to_owned(), Some("y".to_owned()))];
        assert_eq!(found.selectors[0].labels, labels);
        assert_eq!(found.grouped_by.into_iter().collect::<Vec<_>>(), ["kind", "le", "z"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "holt_winters(a[5m], 1, 2)",
            "a offset 5m @ 3",
            "a[5m:1m]",
            "a{b}",
            "a{b=c}",
            "sum",
            "$x",
            "a[5y]",
        ] {
            assert!(names(text).is_err(), "{text}: {:?}", names(text));
        }
    }
}
