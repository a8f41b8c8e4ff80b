//! fallocate(2). Nothing is reserved on chunk servers: unmapped bytes read as zeros, so "allocating" sets the length and
//! "zeroing" cuts the map.

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::NodeKind;
use super::machine::Stop;
use super::permission::{WRITE, may};
use super::request::AllocateMode;
use crate::error::FsError;
use crate::ids::InodeId;
use crate::limits::FILE_BYTES_MAX;

pub(super) fn allocate(
    act: &mut Act<'_>,
    inode: InodeId,
    mode: AllocateMode,
    offset: u64,
    length: u64,
) -> Result<Answer, Stop> {
    let mut row = act.inode(inode)?;
    match row.kind {
        NodeKind::Regular => {}
        NodeKind::Directory => return Err(FsError::IsDirectory.into()),
        _ => return Err(FsError::InvalidArgument.into()),
    }
    require(length > 0, FsError::InvalidArgument)?;
    let end = offset.checked_add(length).filter(|&end| end <= FILE_BYTES_MAX).ok_or(FsError::FileTooLarge)?;
    may(act.caller, &row, WRITE)?;
    act.require_no_other_writer(inode)?;
    let (cuts, grows) = match mode {
        AllocateMode::Extend => (false, true),
        AllocateMode::KeepSize => (false, false),
        AllocateMode::PunchHole | AllocateMode::ZeroRangeKeepSize => (true, false),
        AllocateMode::ZeroRange => (true, true),
    };
    let longer = grows && end > row.size;
    if cuts {
        act.cut_extents(&mut row, offset, end)?;
    }
    if longer {
        row.size = end;
    }
    if cuts || longer {
        row.mtime = act.now();
        row.data_change += 1;
        act.drop_privilege_on_write(&mut row)?;
    }
    row.touch(act.now());
    act.put_inode(&row);
    Ok(Answer::Attr(row.attr()))
}
