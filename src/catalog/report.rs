//! What was found while a cache was loaded: problems, which keep a group from being served, and
//! notices, which do not.
//!
//! Bounded: a cache with a million bad groups has a million problems, of which the first
//! [`PROBLEMS_MAX`] are kept and the others counted.

use crate::cache::{GroupError, IndexCut};
use crate::protocol::archive_index::ArchiveIndexError;
use crate::protocol::container::ContainerError;
use crate::protocol::profile::Reads;
use crate::protocol::{ARCHIVE_INDEXES, Profile};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// How many problems are kept.
pub(super) const PROBLEMS_MAX: usize = 1000;

/// How many problems are printed for people; the others are counted by archive.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// How many groups a notice names.
const EXAMPLES_MAX: usize = 5;

/// Why something is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The store cannot show it: the error names archive, group and place.
    #[error("{0}")]
    Unreadable(GroupError),
    /// The archive's idx file lost its end, so that groups may be missing that nothing names.
    #[error("{0}")]
    IndexCut(IndexCut),
    /// What is stored is no sound container.
    #[error("no sound container: {0}")]
    Container(ContainerError),
    /// What the container holds is no archive index.
    #[error("no sound archive index: {0}")]
    ArchiveIndex(ArchiveIndexError),
    /// The container is not what the index lists.
    #[error("CRC-32 is {found:08x}, its archive index says {expected:08x}")]
    Checksum {
        /// What the archive index says.
        expected: u32,
        /// What the container has.
        found: u32,
    },
    /// The version trailer is not what the index lists.
    #[error("version is {found}, its archive index says {expected} (low 16 bits)")]
    Version {
        /// What the archive index says.
        expected: u16,
        /// What the trailer says.
        found: u16,
    },
    /// There is nothing to check an archive's groups against.
    #[error(
        "its {group_count} stored groups cannot be checked: its archive index \
         ({ARCHIVE_INDEXES}, this archive) is {}", if *stored { "corrupt" } else { "missing" }
    )]
    NoIndex {
        /// How many groups are stored.
        group_count: usize,
        /// Whether there is an index, a corrupt one.
        stored: bool,
    },
    /// The groups claim to be longer than the store's files.
    #[error("the lengths of the stored groups add up to more than the store's files hold")]
    NoRoom,
    /// It cannot be read or is no sound container, and so are so many others that the reason was
    /// not kept.
    #[error("not sound; the reason is known only of the first {PROBLEMS_MAX} such groups")]
    NotKept,
    /// The store is of the time before JS5.
    #[error(
        "a legacy store (main_file_cache.dat) has no archive indexes and cannot be served over \
         JS5; js5d serves main_file_cache.dat2"
    )]
    Legacy,
    /// There is no archive index at all.
    #[error("there is no sound archive index (group 255/N) in the store: nothing can be served")]
    Nothing,
}

impl Cause {
    /// A word for programs.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::IndexCut(_) => "index-cut",
            Self::Container(_) => "container",
            Self::ArchiveIndex(_) => "archive-index",
            Self::Checksum { .. } => "checksum",
            Self::Version { .. } => "version",
            Self::NoIndex { .. } => "no-index",
            Self::NoRoom => "no-room",
            Self::NotKept => "not-kept",
            Self::Legacy => "legacy",
            Self::Nothing => "nothing",
        }
    }
}

/// Something that is corrupt, and for this reason not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The archive; none if the whole store is meant.
    pub archive: Option<u8>,
    /// The group; none if the whole archive is meant.
    pub group: Option<u32>,
    /// What is wrong.
    pub cause: Cause,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.archive, self.group) {
            // A store's errors name the group themselves.
            _ if matches!(self.cause, Cause::Unreadable(_)) => {}
            (Some(ARCHIVE_INDEXES), Some(group)) => {
                write!(f, "archive 255, group {group} (the index of archive {group}): ")?;
            }
            (Some(archive), Some(group)) => write!(f, "archive {archive}, group {group}: ")?,
            (Some(archive), None) => write!(f, "archive {archive}: ")?,
            (None, _) => {}
        }
        self.cause.fmt(f)
    }
}

/// What kind of remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// The archive's index lists no group.
    Empty,
    /// Groups that the index lists and the store lacks. Not served.
    NotInStore,
    /// The same, of an archive of which no group at all is stored, as if its file or directory was
    /// not copied.
    NoneStored,
    /// Groups that are stored and not listed, so that there is no checksum to check them against,
    /// and clients cannot know of them. Not served, whether they can be read or not.
    NotInIndex,
    /// Sound groups of 65,536 and more, which no client that is served can ask for.
    BeyondWire,
    /// Groups without a version trailer: their version is not checked. Served.
    NoTrailer,
    /// Groups with something other than a version trailer behind their container. Served without
    /// it.
    BytesCut,
    /// Bytes behind the last column of the archive index; the example is their number.
    IndexTrailing,
    /// Flags of the archive index that no client knows; the example is their sum.
    IndexFlags,
    /// Entries of the archive index whose group stands there again; the example is their number.
    IndexRepeated,
    /// A group (255, 255) in the store. The server makes its own.
    StoredMasterIndex,
}

impl NoticeKind {
    /// A word for programs.
    fn kind(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotInStore => "not-in-store",
            Self::NoneStored => "none-stored",
            Self::NotInIndex => "not-in-index",
            Self::BeyondWire => "beyond-wire",
            Self::NoTrailer => "no-trailer",
            Self::BytesCut => "bytes-cut",
            Self::IndexTrailing => "index-trailing-bytes",
            Self::IndexFlags => "index-flags",
            Self::IndexRepeated => "index-repeated",
            Self::StoredMasterIndex => "stored-master-index",
        }
    }

    /// What it means, behind a number of groups.
    fn words(self) -> &'static str {
        match self {
            Self::NotInStore => "listed by its index, but not stored",
            Self::NotInIndex => "stored, but not listed by its index; not served",
            Self::BeyondWire => {
                "numbered 65536 or more, which no client that is served can ask for"
            }
            Self::NoTrailer => "stored without a version, which was not checked",
            Self::BytesCut => "stored with bytes behind the container, which were cut off",
            Self::Empty
            | Self::NoneStored
            | Self::IndexTrailing
            | Self::IndexFlags
            | Self::IndexRepeated
            | Self::StoredMasterIndex => "",
        }
    }
}

/// Something remarkable that keeps nothing sound from being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The archive.
    pub archive: u8,
    /// What about it.
    pub kind: NoticeKind,
    /// How many groups.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<u32>,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, kind, count, examples } = self;
        let first = examples.first().copied().unwrap_or_default();
        match kind {
            NoticeKind::Empty => return write!(f, "archive {archive}: empty"),
            NoticeKind::NoneStored => {
                return write!(
                    f,
                    "archive {archive}: none of the groups that its index lists ({count}) is \
                     stored; was main_file_cache.idx{archive} or the directory {archive} left out \
                     of the copy?"
                );
            }
            NoticeKind::StoredMasterIndex => {
                return write!(f, "archive 255: a stored master index; js5d makes its own");
            }
            NoticeKind::IndexTrailing => {
                return write!(
                    f,
                    "archive {archive}: its index has {first} unused bytes at its end"
                );
            }
            NoticeKind::IndexFlags => {
                return write!(
                    f,
                    "archive {archive}: its index has unknown flags ({first:#04x}), which were \
                     ignored"
                );
            }
            NoticeKind::IndexRepeated => {
                return write!(
                    f,
                    "archive {archive}: its index lists groups twice ({first} entries); the last \
                     entry of each counts"
                );
            }
            _ => {}
        }
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "archive {archive}: {count} group{plural} {} (", kind.words())?;
        for (position, group) in examples.iter().enumerate() {
            write!(f, "{}{group}", if position == 0 { "" } else { ", " })?;
        }
        f.write_str(if *count > examples.len() as u64 { ", …)" } else { ")" })
    }
}

/// What is known of an archive whose index could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveReport {
    /// The archive.
    pub archive: u8,
    /// The format of its index: 5, 6 or 7.
    pub format: u8,
    /// Its version, as the master index gives it.
    pub version: u32,
    /// How many groups its index lists.
    pub groups_listed: usize,
    /// How many of them are sound and can be asked for.
    pub groups_served: usize,
    /// The flags of its index.
    pub flags: u8,
    /// How many sound groups, its index included, are packed with LZMA.
    pub lzma: usize,
    /// How many of those that are served have numbers of 65,536 and more.
    pub wide: usize,
}

/// Everything that was found. Printed, it is a line each problem and notice.
#[derive(Debug, Default)]
pub struct Report {
    /// The archives that can be served.
    pub archives: Vec<ArchiveReport>,
    problems: Vec<Problem>,
    /// By archive, or the whole store, those that were not kept included.
    problem_counts: BTreeMap<Option<u8>, u64>,
    notices: BTreeMap<(u8, NoticeKind), Notice>,
    remarks: Vec<String>,
    /// What clients cannot read of it, a line each.
    misfits: Vec<String>,
}

impl Report {
    pub(super) fn new(remarks: Vec<String>) -> Self {
        Self { remarks, ..Self::default() }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        *self.problem_counts.entry(problem.archive).or_default() += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    pub(super) fn note(&mut self, archive: u8, kind: NoticeKind, example: u32) {
        let empty = || Notice { archive, kind, count: 0, examples: Vec::new() };
        let notice = self.notices.entry((archive, kind)).or_insert_with(empty);
        notice.count += 1;
        if notice.examples.len() < EXAMPLES_MAX {
            notice.examples.push(example);
        }
    }

    /// Notes what clients of these profiles cannot read of what is served.
    pub(super) fn compare_with(&mut self, profiles: &[Profile]) {
        self.misfits =
            profiles.iter().flat_map(|profile| misfits(&self.archives, profile)).collect();
    }

    /// Brings the problems, found in the order of reading, into the order of archives.
    pub(super) fn finish(&mut self) {
        self.problems.sort_by_key(|problem| (problem.archive, problem.group));
    }

    /// Whether nothing is corrupt.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problem_counts.is_empty()
    }

    /// Whether something is left that can be served.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        !self.archives.is_empty()
    }

    /// What to do about its problems.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.can_serve() {
            true => "repair it or fetch it again; --skip-corrupt serves the rest",
            false => "fetch it again from its source",
        }
    }

    /// The number of problems and the first of them, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let first = self.problems.first().map(ToString::to_string).unwrap_or_default();
        match self.problem_count() {
            0 | 1 => first,
            count => format!("{count} problems, the first: {first}"),
        }
    }

    /// How many problems there are.
    #[must_use]
    pub fn problem_count(&self) -> u64 {
        self.problem_counts.values().sum()
    }

    /// The problems, by archive and group; at most 1,000 of them.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The notices, by archive.
    pub fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.notices.values()
    }

    /// What is remarkable about the store as a whole, a line each.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// What clients cannot read of what is served, a line each.
    #[must_use]
    pub fn misfits(&self) -> &[String] {
        &self.misfits
    }

    /// The report for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let problems = self.problems.iter().map(|problem| {
            json!({
                "archive": problem.archive,
                "group": problem.group,
                "kind": problem.cause.kind(),
                "text": problem.to_string(),
            })
        });
        let notices = self.notices().map(|notice| {
            json!({
                "archive": notice.archive,
                "kind": notice.kind.kind(),
                "count": notice.count,
                "examples": notice.examples,
                "text": notice.to_string(),
            })
        });
        let archives = self.archives.iter().map(|archive| {
            json!({
                "archive": archive.archive,
                "format": archive.format,
                "version": archive.version,
                "groups_listed": archive.groups_listed,
                "groups_served": archive.groups_served,
                "flags": archive.flags,
                "groups_lzma": archive.lzma,
            })
        });
        json!({
            "sound": self.is_sound(),
            "problem_count": self.problem_count(),
            "problems": problems.collect::<Vec<_>>(),
            "notices": notices.collect::<Vec<_>>(),
            "remarks": self.remarks,
            "misfits": self.misfits,
            "archives": archives.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(PROBLEMS_SHOWN_MAX) {
            writeln!(f, "{problem}")?;
        }
        if self.problem_count() > PROBLEMS_SHOWN_MAX as u64 {
            writeln!(f, "… {} problems in all:", self.problem_count())?;
            for (archive, count) in &self.problem_counts {
                match archive {
                    Some(archive) => writeln!(f, "archive {archive}: {count} problems")?,
                    None => writeln!(f, "the whole store: {count} problems")?,
                }
            }
        }
        for remark in &self.remarks {
            writeln!(f, "{remark}")?;
        }
        for notice in self.notices() {
            writeln!(f, "{notice}")?;
        }
        for misfit in &self.misfits {
            writeln!(f, "{misfit}")?;
        }
        Ok(())
    }
}

/// What clients of a profile cannot read of a cache, a line for each reason.
fn misfits(archives: &[ArchiveReport], profile: &Profile) -> Vec<String> {
    let Reads { archives_min, lzma, index_format_max, index_flags } = profile.reads;
    let those = |is_one: &dyn Fn(&ArchiveReport) -> bool| -> Vec<u8> {
        archives.iter().filter(|archive| is_one(archive)).map(|archive| archive.archive).collect()
    };
    let has_index = |archive| archives.iter().any(|report| report.archive == archive);
    let missing: Vec<_> = (0..archives_min).filter(|&archive| !has_index(archive)).collect();
    let strange = archives.iter().fold(0, |flags, archive| flags | archive.flags) & !index_flags;
    let packed: usize = archives.iter().map(|archive| archive.lzma).sum();
    let beyond: usize = archives.iter().map(|archive| archive.wide).sum();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let counted = |count, one, many| match count {
        1 => format!("1 group {one}"),
        count => format!("{count} groups {many}"),
    };
    let reasons = [
        (
            format!(
                "open archives 0 to {}, of which some have no index",
                archives_min.saturating_sub(1)
            ),
            missing,
        ),
        (
            format!("cannot unpack LZMA, which {}", counted(packed, "uses", "use")),
            those(&|archive| archive.lzma > 0 && !lzma),
        ),
        (
            format!(
                "know archive indexes up to format {index_format_max}, and the cache has later ones"
            ),
            those(&|archive| archive.format > index_format_max),
        ),
        (
            format!("do not know the flags {strange} of archive indexes"),
            those(&|archive| archive.flags & !index_flags != 0),
        ),
        (
            format!("cannot ask for {beyond} group{} numbered 65536 or more", plural(beyond)),
            those(&|archive| archive.wide > 0 && !profile.asks_wide()),
        ),
    ];
    let line = |(what, places): (String, Vec<u8>)| {
        let shown: Vec<_> = places.iter().take(EXAMPLES_MAX).map(u8::to_string).collect();
        let more = if places.len() > EXAMPLES_MAX { ", …" } else { "" };
        let plural = plural(places.len());
        let (name, list) = (&profile.name, shown.join(", "));
        (!places.is_empty())
            .then(|| format!("clients of {name} {what} (archive{plural} {list}{more})"))
    };
    reasons.into_iter().filter_map(line).collect()
}
