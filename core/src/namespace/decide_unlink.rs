//! unlink(2) and rmdir(2). The last name's end makes an orphan, whatever the kind: somebody may hold it open.

use super::act::{Act, require};
use super::answer::Answer;
use super::machine::Stop;
use super::name::Name;
use super::permission::may_remove;
use crate::error::FsError;
use crate::ids::InodeId;

pub(super) fn unlink(act: &mut Act<'_>, parent: InodeId, name: &Name) -> Result<Answer, Stop> {
    let (mut directory, entry) = act.search_present(parent, name)?;
    let mut child = act.named_inode(entry.inode)?;
    may_remove(act.caller, &directory, &child)?;
    require(!child.is_directory(), FsError::IsDirectory)?;
    act.remove_name(&mut directory, name, &entry);
    act.put_inode(&directory);
    act.drop_link(&mut child);
    Ok(Answer::Done)
}

pub(super) fn rmdir(act: &mut Act<'_>, parent: InodeId, name: &Name) -> Result<Answer, Stop> {
    let (mut directory, entry) = act.search_present(parent, name)?;
    let mut child = act.named_inode(entry.inode)?;
    may_remove(act.caller, &directory, &child)?;
    require(child.is_directory(), FsError::NotDirectory)?;
    require(child.size == 0, FsError::NotEmpty)?;
    act.remove_name(&mut directory, name, &entry);
    directory.links -= 1;
    act.put_inode(&directory);
    act.drop_link(&mut child);
    Ok(Answer::Done)
}
