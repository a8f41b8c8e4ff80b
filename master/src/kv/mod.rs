//! The applied state on disk: RocksDB behind the key-value door of `cairn_env`.

mod hidden;
mod rocks;

#[cfg(test)]
mod rocks_test;

pub use rocks::RocksKv;
