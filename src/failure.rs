//! Why a command ends badly: the cause, what to do about it, and the exit code.

use crate::admin::BindError;
use crate::cache::{StoreError, StoreFault};
use crate::catalog::{ArenaError, LoadError};
use crate::net::ListenError;
use crate::platform::probe::RingMissing;
use std::fmt;
use std::process::ExitCode;

/// Exit codes, as `sysexits.h` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command line is wrong.
    Usage = 64,
    /// The cache is corrupt.
    CorruptCache = 65,
    /// There is no cache.
    NoCache = 66,
    /// There is no io_uring, and it is to be the ring.
    NoRing = 69,
    /// The system refuses.
    System = 71,
    /// This user may not.
    Permission = 77,
    /// A setting is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Cause, remedy, exit code.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, with the place.
    pub cause: String,
    /// The one thing to do about it.
    pub remedy: String,
    /// How the process ends.
    pub exit: Exit,
}

impl Failure {
    /// A failure.
    pub fn new(exit: Exit, cause: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { cause: cause.to_string().trim_end().to_owned(), remedy: remedy.to_string(), exit }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "js5d: {}\n      {}", self.cause, self.remedy)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::AlreadyAStore { .. }) {
            let remedy = "name another directory, or remove the store that is there";
            return Self::new(Exit::Usage, error, remedy);
        }
        let (exit, remedy) = match error.fault() {
            StoreFault::Missing => (
                Exit::NoCache,
                "name a directory with main_file_cache.dat2 and idx files, or ARCHIVE/GROUP.dat, \
                 or a zip, tar or tar.gz of one; 'js5d demo-cache DIR' writes one to try",
            ),
            StoreFault::Permission => (Exit::Permission, "let the server's user read the cache"),
            StoreFault::Unreadable if error.is_another_kind() => {
                (Exit::CorruptCache, "docs/caches.md says what can be served, and where to get it")
            }
            StoreFault::Unreadable => (Exit::CorruptCache, "fetch the cache again from its source"),
            StoreFault::Other => (Exit::System, "look at the directory and the disk"),
        };
        Self::new(exit, error, remedy)
    }
}

impl From<RingMissing> for Failure {
    fn from(error: RingMissing) -> Self {
        let remedy =
            format!("{}; or leave --driver at auto, which serves by epoll", error.remedy());
        Self::new(Exit::NoRing, &error, remedy)
    }
}

impl From<ArenaError> for Failure {
    fn from(error: ArenaError) -> Self {
        Self::new(Exit::System, error, "give the process more memory, or serve a smaller cache")
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        let exit = match error.source.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::System,
        };
        Self::new(exit, &error, error.remedy())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => error.into(),
            LoadError::Arena(error) => error.into(),
            LoadError::Memory { .. } => {
                let remedy = "raise --generations-memory-max, or serve a smaller cache";
                Self::new(Exit::Config, error, remedy)
            }
            LoadError::Master(error) => {
                let remedy = "give --master-index the group 255/255 of this very cache, or leave \
                              the option out: js5d then makes that group";
                Self::new(Exit::Config, error, remedy)
            }
            LoadError::Corrupt(ref report) => {
                let remedy = report.remedy();
                Self::new(Exit::CorruptCache, error, remedy)
            }
        }
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let exit = match error.source.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::System,
        };
        Self::new(exit, &error, error.remedy())
    }
}
