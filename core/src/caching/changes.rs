//! What the rows of a journal entry change for those who cache.

use crate::ids::InodeId;
use crate::namespace::attr::Attr;
use crate::namespace::rows::inode::{InodeKey, InodeRow};
use crate::namespace::rows::names::{DentryKey, DentryRow};
use crate::namespace::rows::{Damaged, Key, Table, Value};
use bytes::Bytes;

/// The inodes and names that one entry changes. Whoever changes a name or a map also changes the inode it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Inodes with their attributes from now on; `None`: the inode is no more.
    pub inodes: Vec<(InodeId, Option<Attr>)>,
    /// Names that lead elsewhere from now on: directory, name, and where to; `None`: nowhere.
    pub names: Vec<(InodeId, Bytes, Option<InodeId>)>,
}

impl Changes {
    /// Reads them off an entry's rows.
    ///
    /// # Errors
    /// [`Damaged`]: a row that this build cannot read.
    pub fn of(rows: &[(Bytes, Option<Bytes>)]) -> Result<Self, Damaged> {
        let mut changes = Self::default();
        for (key, value) in rows {
            match key.first() {
                Some(&table) if table == Table::Inode as u8 => {
                    let key = InodeKey::decode(key)?;
                    let attr = value.as_ref().map(|value| attr_of(key, value)).transpose()?;
                    changes.inodes.push((key.0, attr));
                }
                Some(&table) if table == Table::Dentry as u8 => {
                    let key = DentryKey::decode(key)?;
                    let leads_to = value.as_ref().map(|value| DentryRow::decode(value)).transpose()?;
                    changes.names.push((key.parent, key.name.to_bytes(), leads_to.map(|row| row.inode)));
                }
                _ => {}
            }
        }
        Ok(changes)
    }
}

fn attr_of(key: InodeKey, value: &[u8]) -> Result<Attr, Damaged> {
    let mut row = InodeRow::decode(value)?;
    key.complete(&mut row);
    Ok(row.attr())
}
