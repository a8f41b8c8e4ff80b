//! The namespace as a log machine: `decide` turns a request into a record or a refusal, `apply` writes the record's rows.

pub mod answer;
pub mod attr;
pub mod name;
pub mod request;
