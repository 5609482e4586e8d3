//! Drafts on the disk, where several people sign at the same time: in a folder that they share, or in two windows.
//!
//! Reading a draft, opening a key and writing the draft back takes as long as somebody needs for a passphrase. What was written meanwhile
//! is looked at again before it is replaced, under a lock that nobody holds for longer than that.

use std::{fs::File, path::Path};

use anyhow::Context;
use switchback_signing::metadata::merge_signatures;

use crate::{
    base::read_metadata,
    failure::{Hint, failure},
    files::{self, Access},
};

/// Writes a draft that says something else than the one that was read, of which nothing is left.
pub(crate) fn replace(path: &Path, read: Option<&[u8]>, draft: &[u8]) -> anyhow::Result<()> {
    let _lock = lock(path)?;
    if there(path)?.as_deref() != read {
        return Err(failure(
            changed(path),
            "nothing was written: look at what it says now, and make the change again if it is still wanted",
        ));
    }
    files::write(path, draft, Access::Public)
}

/// Writes `signed`, the draft that was read with one more signature, beside the signatures that others have added to it since. Gives what
/// is written.
pub(crate) fn add_signature(path: &Path, read: Option<&[u8]>, signed: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let _lock = lock(path)?;
    let there = there(path)?;
    let signed = match there {
        there if there.as_deref() == read => signed,
        // Every signature in `signed` was in the draft that was read, or was just made.
        Some(there) => {
            merge_signatures(&there, &signed, there.len().max(signed.len()), |_| true).with_context(|| changed(path)).hint(SIGN_AGAIN)?
        }
        None => return Err(failure(changed(path), SIGN_AGAIN)),
    };
    files::write(path, &signed, Access::Public)?;
    Ok(signed)
}

const SIGN_AGAIN: &str = "the signature was not added: look at what is to be signed now (`switchback status`), and sign that";

fn changed(path: &Path) -> String {
    format!("somebody else has changed {} meanwhile", path.display())
}

fn there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    path.is_file().then(|| read_metadata(path)).transpose()
}

/// Held until it is dropped; the system ends it with the process. It is the folder that is locked: a file of somebody else's could not be
/// opened. Some network folders know no locks; what is left there is that the draft is looked at just before it is written.
fn lock(path: &Path) -> anyhow::Result<Option<File>> {
    let folder = path.parent().with_context(|| format!("{} is in no folder", path.display()))?;
    let folder = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    Ok(folder.lock().is_ok().then_some(folder))
}
