//! What an entry of a packed file is, by its name.
//!
//! Names come from others. If one is absolute or leads out of the packed directory, the whole file
//! is refused, although js5d writes none of the entries, because no honest packer writes such a
//! name.

use super::PackedFault;
use crate::cache::names::{DAT, DAT2, DAT2M, IDX, canonical};

/// The longest name that is looked at.
pub(super) const NAME_LEN_MAX: usize = 4096;

/// A part of a cache. Ordered by archive and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// `main_file_cache.dat2`.
    Data,
    /// `main_file_cache.dat2m`.
    MusicData,
    /// `main_file_cache.dat`.
    LegacyData,
    /// `main_file_cache.idxA`.
    Index(u8),
    /// `ARCHIVE/GROUP.dat`.
    Group { archive: u8, group: u32 },
    /// An idx file whose number is no archive's.
    NotAnArchive,
    /// Something in an archive's directory.
    NotAGroup,
    /// Nothing of a cache.
    Other,
}

impl Part {
    /// The name of such an entry in `dir`.
    pub(super) fn name(self, dir: Option<&str>) -> String {
        let dir = dir.unwrap_or_default();
        match self {
            Self::Data => format!("{dir}{DAT2}"),
            Self::MusicData => format!("{dir}{DAT2M}"),
            Self::LegacyData => format!("{dir}{DAT}"),
            Self::Index(archive) => format!("{dir}{IDX}{archive}"),
            Self::Group { archive, group } => format!("{dir}{archive}/{group}.dat"),
            Self::NotAnArchive | Self::NotAGroup | Self::Other => dir.to_owned(),
        }
    }
}

/// A name, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The directory of the cache that it belongs to, ending in a slash unless it is empty.
    pub(super) dir: String,
    pub(super) part: Part,
}

/// Takes a name apart.
pub(super) fn read(name: &str) -> Result<Name, PackedFault> {
    // Some packers of Windows write its separators.
    let name = name.replace('\\', "/");
    let is_drive = |first: &str| first.len() == 2 && first.ends_with(':');
    let first = name.split('/').next().unwrap_or_default();
    if name.starts_with('/') || is_drive(first) {
        return Err(PackedFault::Absolute);
    }
    let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(PackedFault::LeadsOut);
    }
    let archive = |text: &str| canonical(text).and_then(|number| u8::try_from(number).ok());
    let (part, depth) = match *parts {
        // A directory.
        _ if name.ends_with('/') => (Part::Other, 0),
        [.., last] if last.starts_with(IDX) => {
            let number = last.strip_prefix(IDX).and_then(archive);
            (number.map_or(Part::NotAnArchive, Part::Index), 1)
        }
        [.., DAT2] => (Part::Data, 1),
        [.., DAT2M] => (Part::MusicData, 1),
        [.., DAT] => (Part::LegacyData, 1),
        [.., dir, last] => match archive(dir) {
            Some(archive) => {
                let group = last.strip_suffix(".dat").and_then(canonical);
                (group.map_or(Part::NotAGroup, |group| Part::Group { archive, group }), 2)
            }
            None => (Part::Other, 1),
        },
        _ => (Part::Other, 1),
    };
    let above = parts.len().saturating_sub(depth);
    let dir = parts.into_iter().take(above).map(|part| format!("{part}/")).collect();
    Ok(Name { dir, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_bad_ones_refused() {
        let group = |archive, group| Part::Group { archive, group };
        for (name, dir, part) in [
            ("cache/main_file_cache.dat2", "cache/", Part::Data),
            ("./main_file_cache.dat2", "", Part::Data),
            ("a\\b\\main_file_cache.idx255", "a/b/", Part::Index(255)),
            ("main_file_cache.idx256", "", Part::NotAnArchive),
            ("cache/main_file_cache.dat", "cache/", Part::LegacyData),
            ("cache/255/28.dat", "cache/", group(255, 28)),
            ("7/65536.dat", "", group(7, 65536)),
            ("cache/7/", "cache/7/", Part::Other),
            ("cache/7/note.txt", "cache/", Part::NotAGroup),
            ("cache/7/01.dat", "cache/", Part::NotAGroup),
            ("550/7/1.dat", "550/", group(7, 1)),
            ("keys.json", "", Part::Other),
            ("cache/", "cache/", Part::Other),
            ("", "", Part::Other),
        ] {
            assert_eq!(read(name), Ok(Name { dir: dir.into(), part }), "{name}");
        }
        for (name, fault) in [
            ("/7/1.dat", PackedFault::Absolute),
            ("\\7\\1.dat", PackedFault::Absolute),
            ("C:\\7\\1.dat", PackedFault::Absolute),
            ("cache/../../7/1.dat", PackedFault::LeadsOut),
            ("..", PackedFault::LeadsOut),
        ] {
            assert_eq!(read(name), Err(fault), "{name}");
        }
    }
}
