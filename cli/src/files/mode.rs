//! Modes as chmod(1) reads them: octal, or symbolic clauses (`u+x,go-w,a=r`).

use crate::error::CliError;

/// A parsed mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Absolute(u32),
    Clauses(Vec<Clause>),
}

/// One clause: who, how, what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    /// Mask of the classes meant, each as its three permission bits.
    classes: u32,
    operator: char,
    /// r, w, x as one class's bits.
    bits: u32,
    /// X: execute only for directories and what is executable already.
    conditional_execute: bool,
    setid: bool,
    sticky: bool,
}

impl Mode {
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let bad = || CliError::Usage(format!("{text} is neither an octal mode nor clauses such as u+x,go-w"));
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Self::Absolute(mode)),
                _ => Err(bad()),
            };
        }
        text.split(',')
            .map(|clause| Clause::parse(clause).ok_or_else(bad))
            .collect::<Result<_, _>>()
            .map(Self::Clauses)
    }

    /// The mode that a file of mode `old` gets.
    pub(super) fn apply(&self, old: u32, is_directory: bool) -> u32 {
        match self {
            Self::Absolute(mode) => *mode,
            Self::Clauses(clauses) => {
                clauses.iter().fold(old, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['+', '-', '='])?;
        let (who, rest) = text.split_at(at);
        let mut classes = 0;
        for class in who.chars() {
            classes |= match class {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        let mut what = rest.chars();
        let mut clause = Self {
            classes: if classes == 0 { 0o777 } else { classes },
            operator: what.next()?,
            bits: 0,
            conditional_execute: false,
            setid: false,
            sticky: false,
        };
        for letter in what {
            match letter {
                'r' => clause.bits |= 4,
                'w' => clause.bits |= 2,
                'x' => clause.bits |= 1,
                'X' => clause.conditional_execute = true,
                's' => clause.setid = true,
                't' => clause.sticky = true,
                _ => return None,
            }
        }
        Some(clause)
    }

    fn apply(self, old: u32, is_directory: bool) -> u32 {
        let execute = self.conditional_execute && (is_directory || old & 0o111 != 0);
        let bits = self.bits | u32::from(execute);
        let mut chosen = (bits * 0o111) & self.classes;
        if self.setid {
            chosen |= if self.classes & 0o700 != 0 { 0o4000 } else { 0 };
            chosen |= if self.classes & 0o070 != 0 { 0o2000 } else { 0 };
        }
        if self.sticky {
            chosen |= 0o1000;
        }
        match self.operator {
            '+' => old | chosen,
            '-' => old & !chosen,
            _ => (old & !self.classes) | chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, old: u32) -> u32 {
        Mode::parse(text).unwrap().apply(old, false)
    }

    #[test]
    fn clauses_change_what_they_name() {
        assert_eq!(apply("u+x", 0o644), 0o744);
        assert_eq!(apply("go-w,u=rw", 0o777), 0o655);
        assert_eq!(apply("a=r", 0o777), 0o444);
        assert_eq!(apply("+X", 0o644), 0o644);
        assert_eq!(apply("+X", 0o744), 0o755);
        assert_eq!(apply("ug+s,+t", 0o755), 0o7755);
        assert_eq!(apply("0640", 0o777), 0o640);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "8", "u", "q+x", "u+q", "77777"] {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
    }
}
