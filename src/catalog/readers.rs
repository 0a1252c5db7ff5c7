//! For whom a cache is loaded: what they speak decides which framings and master indexes are made.

use super::snapshot::SnapshotBuilder;
use crate::protocol::Profile;
use crate::protocol::container::ContainerHeader;
use crate::protocol::frame::Framing;
use crate::protocol::master_index::{
    self, MasterEntry, MasterFormat, MasterIndexError, decode, encode, encode_signed,
};
use crate::protocol::rsa::RsaKey;
use std::sync::Arc;

/// The clients that a snapshot is made for, and what signs their master index.
#[derive(Clone, Debug)]
pub struct Readers {
    profiles: Vec<Profile>,
    key: Option<Arc<RsaKey>>,
    /// A master index that is served unchanged, if it agrees with ours for each archive.
    stored: Option<Arc<[u8]>>,
}

/// Why a stored master index is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterError {
    /// It is of no format that a client reads.
    #[error("the stored master index cannot be read by these clients ({format}): {cause}")]
    Unreadable {
        /// The richest that one reads.
        format: MasterFormat,
        /// What is wrong with it as such.
        cause: MasterIndexError,
    },
    /// It is another cache's.
    #[error(
        "the stored master index ({format}) is of another cache: for archive {archive} it has \
         {what} {stored}, and this cache has {found}"
    )]
    Differs {
        /// As which it was read.
        format: MasterFormat,
        /// The first archive of which it says something else.
        archive: usize,
        /// What it says.
        what: &'static str,
        /// As it says.
        stored: String,
        /// As it is.
        found: String,
    },
}

impl Default for Readers {
    /// Clients of build 550.
    fn default() -> Self {
        Self::new(vec![Profile::build_550()])
    }
}

impl Readers {
    /// Clients of these profiles, whose master indexes are not signed.
    #[must_use]
    pub fn new(profiles: Vec<Profile>) -> Self {
        Self { profiles, key: None, stored: None }
    }

    /// Signs their master indexes.
    #[must_use]
    pub fn signed_with(mut self, key: Option<Arc<RsaKey>>) -> Self {
        self.key = key;
        self
    }

    /// Serves this container as master index in the format that it fits.
    #[must_use]
    pub fn with_stored_master(mut self, container: Option<Arc<[u8]>>) -> Self {
        // What is behind the container never goes onto the wire.
        self.stored = container.map(|stored| match ContainerHeader::parse(&stored) {
            Ok(header) => stored.get(..header.container_len()).map_or(stored.clone(), Arc::from),
            Err(_) => stored,
        });
        self
    }

    /// Who they are.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// The framings that they read.
    #[must_use]
    pub fn framings(&self) -> Vec<Framing> {
        let is_read = |framing: &Framing| self.profiles.iter().any(|p| p.framing == *framing);
        Framing::ALL.into_iter().filter(is_read).collect()
    }

    /// Whether one of them can ask for groups of 65,536 and more.
    #[must_use]
    pub fn ask_wide(&self) -> bool {
        self.profiles.iter().any(Profile::asks_wide)
    }

    /// Whether digests of archive indexes are needed.
    pub(super) fn need_digests(&self) -> bool {
        self.formats().any(MasterFormat::has_digests)
    }

    /// The formats of master index that one of them reads.
    pub(super) fn formats(&self) -> impl Iterator<Item = MasterFormat> {
        let is_read = |format: &MasterFormat| self.profiles.iter().any(|p| p.master == *format);
        MasterFormat::ALL.into_iter().filter(is_read)
    }

    /// Makes group (255, 255) in each format that is read, of what the archive indexes turned out
    /// to be.
    pub(super) fn add_masters(
        &self,
        builder: &mut SnapshotBuilder,
        entries: &[MasterEntry],
    ) -> Result<(), MasterError> {
        let stored_as =
            self.stored.as_ref().map(|stored| self.fits(stored, entries)).transpose()?;
        for format in self.formats() {
            let container = match &self.stored {
                Some(stored) if stored_as == Some(format) => Ok(stored.to_vec()),
                _ => encode_signed(format, entries, self.key.as_deref()),
            };
            // Neither can fail: there are at most 255 archives, and the arena has room for the
            // longest master index of each format.
            if let Ok(container) = container {
                builder.add_master(format, &container);
            }
        }
        if let Ok(container) = encode(MasterFormat::Versioned, entries) {
            builder.name_by(&container);
        }
        Ok(())
    }

    /// As which format a stored master index says of each archive what `entries` do.
    fn fits(&self, stored: &[u8], entries: &[MasterEntry]) -> Result<MasterFormat, MasterError> {
        let mut error = None;
        for format in self.formats() {
            let result = match decode(format, stored) {
                Ok(found) => first_difference(format, &found, entries),
                Err(cause) => Err(MasterError::Unreadable { format, cause }),
            };
            match result {
                Ok(()) => return Ok(format),
                // What could be read says more about what is wrong.
                Err(differs @ MasterError::Differs { .. }) => error = Some(differs),
                Err(unreadable) => _ = error.get_or_insert(unreadable),
            }
        }
        let cause = MasterIndexError::WrongLength { len: stored.len(), entry_len: 0 };
        let none = MasterError::Unreadable { format: MasterFormat::Versioned, cause };
        Err(error.unwrap_or(none))
    }
}

fn first_difference(
    format: MasterFormat,
    stored: &[MasterEntry],
    entries: &[MasterEntry],
) -> Result<(), MasterError> {
    // What one of them does not have is absent.
    let entry = |all: &[MasterEntry], archive: usize| {
        all.get(archive).copied().unwrap_or_default().in_format(format)
    };
    for archive in 0..stored.len().max(entries.len()) {
        let (stored, found) = (entry(stored, archive), entry(entries, archive));
        if stored == found {
            continue;
        }
        let hex = |number: u32| format!("{number:08x}");
        let shown = |number: u32| number.to_string();
        let (what, stored, found) = if stored.crc != found.crc {
            ("CRC", hex(stored.crc), hex(found.crc))
        } else if stored.version != found.version {
            ("version", shown(stored.version), shown(found.version))
        } else if stored.groups != found.groups {
            ("capacity", shown(stored.groups), shown(found.groups))
        } else if stored.length != found.length {
            ("uncompressed length", shown(stored.length), shown(found.length))
        } else {
            ("digest", digest_start(&stored), digest_start(&found))
        };
        return Err(MasterError::Differs { format, archive, what, stored, found });
    }
    Ok(())
}

fn digest_start(entry: &MasterEntry) -> String {
    let start = entry.digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    start.collect::<String>() + "…"
}

/// The longest stored master index that is read.
pub const STORED_MASTER_LEN_MAX: usize = master_index::MASTER_INDEX_LEN_MAX;
