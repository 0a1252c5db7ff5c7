//! A store that is written under a temporary name, and takes its own when it is whole and on disk.
//!
//! Even if the process is killed or the machine fails, the target is either a whole store or what
//! it was before. A later process finds what a killed one left by the temporary name, and writes it
//! again; a lock keeps two processes from writing it at once.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with, syncfs};

use super::{Packing, StoreError, StoreKind, StoreWriter, WriteSummary};

/// What the temporary name ends with.
const PARTIAL: &str = ".js5d-partial";

/// The forms in which a store is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A directory of this kind.
    Directory(StoreKind),
    /// A file.
    File(Packing),
}

/// A store under a temporary name.
#[derive(Debug)]
pub struct StagedStore {
    writer: StoreWriter,
    form: Form,
    partial: PathBuf,
    target: PathBuf,
    /// Locked while it lives.
    _lock: File,
}

impl StagedStore {
    /// Starts a store that will be `target`.
    ///
    /// # Errors
    /// If another process writes it, if there is something already and `may_replace` is not set,
    /// or if it cannot be written.
    pub fn create(target: &Path, form: Form, may_replace: bool) -> Result<Self, StoreError> {
        let target = std::path::absolute(target).unwrap_or_else(|_| target.into());
        let is_there = fs::symlink_metadata(&target).is_ok();
        let is_empty = || fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_none());
        if is_there && !may_replace && !(matches!(form, Form::Directory(_)) && is_empty()) {
            return Err(StoreError::AlreadyAStore { path: target });
        }
        let partial = with_ending(&target, PARTIAL);
        let lock = open_partial(&partial, form)?;
        let io = |source| StoreError::Io { path: partial.clone(), source };
        let writer = match form {
            Form::Directory(kind) => StoreWriter::create(&partial, kind)?,
            Form::File(packing) => {
                let file = lock.try_clone().map_err(io)?;
                StoreWriter::create_packed(&partial, file, packing)?
            }
        };
        Ok(Self { writer, form, partial, target, _lock: lock })
    }

    /// What groups are put into.
    pub fn writer(&mut self) -> &mut StoreWriter {
        &mut self.writer
    }

    /// Gives it up, and removes what was written of it.
    pub fn discard(self) {
        // What stays is cleared away by the next that is written here.
        drop(remove(&self.partial));
    }

    /// Brings all of it to the disk, and then gives it its name.
    ///
    /// # Errors
    /// If that fails; the temporary name stays.
    pub fn finish(self) -> Result<WriteSummary, StoreError> {
        let Self { writer, form, partial, target, _lock: lock } = self;
        let io = |source| StoreError::Io { path: partial.clone(), source };
        let summary = writer.finish()?;
        match form {
            // One call for any number of files, where a call a file would take minutes.
            Form::Directory(_) => syncfs(&lock).map_err(|errno| io(errno.into()))?,
            Form::File(_) => lock.sync_all().map_err(io)?,
        }
        let has_replaced = take_place(&partial, &target)
            .map_err(|source| StoreError::Io { path: target.clone(), source })?;
        if let Some(parent) = target.parent() {
            let synced = File::open(parent).and_then(|dir| dir.sync_all());
            synced.map_err(|source| StoreError::Io { path: parent.into(), source })?;
        }
        if has_replaced {
            remove(&partial).map_err(io)?;
        }
        Ok(summary)
    }
}

/// `path` with `ending` behind its name.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Opens the temporary file or directory, locks it, and empties it of what was left there.
fn open_partial(partial: &Path, form: Form) -> Result<File, StoreError> {
    let io = |source| StoreError::Io { path: partial.into(), source };
    let is_dir = matches!(form, Form::Directory(_));
    if fs::symlink_metadata(partial).is_ok_and(|metadata| metadata.is_dir() != is_dir) {
        lock(partial, &File::open(partial).map_err(io)?)?;
        remove(partial).map_err(io)?;
    }
    let file = if is_dir {
        fs::create_dir_all(partial).map_err(io)?;
        File::open(partial).map_err(io)?
    } else {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).open(partial).map_err(io)?
    };
    lock(partial, &file)?;
    if is_dir {
        for entry in fs::read_dir(partial).map_err(io)? {
            remove(&entry.map_err(io)?.path()).map_err(io)?;
        }
    } else {
        file.set_len(0).map_err(io)?;
    }
    Ok(file)
}

/// Keeps other processes from what `file` is, until it is closed.
pub fn lock(path: &Path, file: &File) -> Result<(), StoreError> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => StoreError::Busy { path: path.into() },
        errno => StoreError::Io { path: path.into(), source: errno.into() },
    })
}

/// Gives `partial` the name `target`, in one step. True if what was there has the other name then.
fn take_place(partial: &Path, target: &Path) -> io::Result<bool> {
    if fs::symlink_metadata(target).is_err() {
        return fs::rename(partial, target).map(|()| false);
    }
    match renameat_with(CWD, partial, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        // Not known to this file system: a file is replaced in one step by any of them.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::rename(partial, target).map(|()| false)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Removes a file or a directory with all that is in it, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
