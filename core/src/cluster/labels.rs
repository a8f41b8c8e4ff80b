//! Where a chunk server stands and what it is, in words: `rack=7`, `host=a12`, `media=ssd`. The labels `rack` and `host` name
//! failure domains: replicas of one chunk are spread over different ones as far as there are any.

use crate::limits::{LABEL_BYTES_MAX, LABELS_MAX};
use thiserror::Error;

/// The label that names the rack.
pub const RACK: &str = "rack";
/// The label that names the machine.
pub const HOST: &str = "host";

/// Labels of one server, by ascending key, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(String, String)>);

/// Why labels are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LabelError {
    /// Not `key=value`, or too long, or with other characters than those that survive every table and shell.
    #[error("\"{0}\" is not key=value, each of 1 to {LABEL_BYTES_MAX} letters, digits, '.', '_' or '-'")]
    Malformed(String),
    /// The same key twice.
    #[error("the label \"{0}\" is given twice")]
    Twice(String),
    /// More than [`LABELS_MAX`].
    #[error("more than {LABELS_MAX} labels")]
    TooMany,
}

impl Labels {
    /// None.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether all of `required` are among these.
    pub fn satisfy(&self, required: &Labels) -> bool {
        required.0.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// Reads `key=value` texts.
    ///
    /// # Errors
    /// See [`LabelError`].
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, LabelError> {
        let mut labels = Vec::new();
        for text in texts {
            let text = text.as_ref();
            let pair = text.split_once('=').filter(|(key, value)| is_word(key) && is_word(value));
            let Some((key, value)) = pair else { return Err(LabelError::Malformed(shown(text))) };
            labels.push((key.to_owned(), value.to_owned()));
        }
        if labels.len() > LABELS_MAX {
            return Err(LabelError::TooMany);
        }
        labels.sort();
        match labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(LabelError::Twice(pair[0].0.clone())),
            None => Ok(Self(labels)),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value.as_str())
    }

    /// All as `key=value`, in order.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(key, value)| format!("{key}={value}"))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// The beginning of a text that is not trusted.
fn shown(text: &str) -> String {
    text.escape_default().take(2 * LABEL_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_sorted_and_found() {
        let labels = Labels::parse(["rack=7", "host=a-12.b"]).unwrap();
        assert_eq!(
            (labels.get(RACK), labels.get(HOST), labels.get("media")),
            (Some("7"), Some("a-12.b"), None)
        );
        assert_eq!(labels.texts().collect::<Vec<_>>(), ["host=a-12.b", "rack=7"]);
        assert!(Labels::parse([""; 0]).unwrap().is_empty());
        let required = |texts: &[&str]| labels.satisfy(&Labels::parse(texts).unwrap());
        assert!(required(&[]) && required(&["rack=7"]) && required(&["host=a-12.b", "rack=7"]));
        assert!(!required(&["rack=8"]) && !required(&["rack=7", "media=ssd"]));
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for bad in ["", "rack", "=7", "rack=", "rack=a b", "rack=a\u{e9}", "rack=a=b"] {
            assert!(matches!(Labels::parse([bad]), Err(LabelError::Malformed(_))), "{bad}");
        }
        assert_eq!(Labels::parse(["a=1", "a=2"]), Err(LabelError::Twice("a".into())));
        let many = (0..=LABELS_MAX).map(|n| format!("k{n}=v"));
        assert_eq!(Labels::parse(many), Err(LabelError::TooMany));
        let long = format!("rack={}", "a".repeat(LABEL_BYTES_MAX + 1));
        assert!(Labels::parse([long]).is_err());
    }
}
