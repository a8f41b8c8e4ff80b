//! The namespace as a log machine: `decide` turns a request into a record or a refusal; applying writes the record's rows.

pub mod answer;
pub mod attr;
mod dispatch;
pub mod internal;
pub mod machine;
pub mod name;
pub mod request;
pub mod work;
