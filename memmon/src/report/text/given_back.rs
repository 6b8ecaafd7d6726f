//! The words for what the end of a process gave back.

use std::fmt::Write;

use super::words::Field;
use crate::model::{Bytes, GivenBack, LeftBehind, Parts, Uid};

/// The sentences about it, each after a full stop.
pub(super) fn came_back(back: &GivenBack, user: &mut dyn FnMut(Uid) -> String) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(Parts { anon, file, shmem, swap }) = back.parts {
        let _ = write!(text, ". It had Anon={anon}, File={file}, Shmem={shmem}, Swap={swap}");
    }
    let _ = write!(text, ". Expected back: at least {}", back.expected);
    match (back.by_cgroup(), back.before, back.after) {
        (Some(came), _, _) => {
            let _ = write!(text, ", came back: {came}, by its cgroup");
        }
        (None, Some(before), Some(after)) => {
            let _ = write!(
                text,
                ", came back: {} of free memory, {} of shared memory, give or take what all other processes took and freed meanwhile",
                change(before.free(), after.free()),
                change(after.shmem, before.shmem),
            );
        }
        _ => text.push_str(", what came back is not known"),
    }
    for left in &back.left_behind {
        let _ = write!(text, ". {}", stays(left, user));
    }
    if back.left_behind.is_empty()
        && let Some(left) = back.shmem_left()
    {
        let _ = write!(
            text,
            ". {left} of its shared memory did not come back: another process maps it, or it is in a file on a tmpfs or \
             in a System V segment (ipcs -m)"
        );
    }
    text
}

fn change(before: Bytes, after: Bytes) -> String {
    if after < before {
        format!("-{}", before.saturating_sub(after))
    } else {
        format!("+{}", after.saturating_sub(before))
    }
}

fn stays(left: &LeftBehind, user: &mut dyn FnMut(Uid) -> String) -> String {
    let LeftBehind { name, bytes, owner, segment, certain } = left;
    let owner = owner.map_or_else(|| "its owner".to_owned(), |owner| format!("its owner {}", user(owner)));
    let name = Field(name);
    match segment {
        Some(id) => format!(
            "Left behind: {bytes} in the System V segment {id} ({name}). If no program needs it any more, {owner} or root \
             can remove it with `ipcrm -m {id}`"
        ),
        None if *certain => format!(
            "Left behind: {bytes} in the file {name}. If no program needs it any more, {owner} or root can remove it"
        ),
        None => format!(
            "Its shared memory did not come back, and may be what is left in the file {name} ({bytes}). If no program needs \
             that any more, {owner} or root can remove it"
        ),
    }
}
