//! What can be wrong with a store, with the place and the numbers to act on.

use std::path::PathBuf;

/// Why a store cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory, or a file in it, cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was opened or read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why one group of a store cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {}
