//! link(2): one more name of an inode that is no directory.
//!
//! Order of refusals as in Linux: the new name's directory first, then EPERM for a directory, ENOENT for an inode whose
//! last name is gone (it must not come back: its end may have begun), EMLINK.

use super::act::{Act, require};
use super::answer::Answer;
use super::machine::Stop;
use super::name::Name;
use crate::error::FsError;
use crate::ids::InodeId;
use crate::limits::LINKS_MAX;

pub(super) fn link(act: &mut Act<'_>, inode: InodeId, parent: InodeId, name: &Name) -> Result<Answer, Stop> {
    let mut row = act.inode(inode)?;
    let mut directory = act.search_vacant(parent, name)?;
    require(!row.is_directory(), FsError::NotPermitted)?;
    require(row.links > 0, FsError::NotFound)?;
    require(row.links < LINKS_MAX, FsError::TooManyLinks)?;
    row.links += 1;
    row.touch(act.now());
    act.add_name(&mut directory, name, inode, row.kind);
    act.put_inode(&directory);
    act.put_inode(&row);
    Ok(Answer::Entry { attr: row.attr(), map: None })
}
