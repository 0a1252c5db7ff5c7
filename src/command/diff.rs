//! `js5d diff`: the differences between two caches, or a cache and a server, and what a player who
//! has the one downloads for the other.
//!
//! A client keeps a group whose checksum and version its index repeats, and downloads the others;
//! so does this. Archive indexes are downloaded if they changed, the master index always.

use super::crcs::load_cache;
use super::fetch::remote::{Remote, Server};
use super::text::{counted, megabytes, print, thousands};
use crate::catalog::{LoadOptions, Readers, Snapshot};
use crate::cli::DiffArgs;
use crate::failure::{Exit, Failure};
use crate::protocol::archive_index::{ArchiveIndex, FLAG_LENGTHS};
use crate::protocol::frame::Framing;
use crate::protocol::listing::{Listed, formats_from, readings};
use crate::protocol::{Dialect, GroupId, MASTER_INDEX, Profile};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// How many groups of an archive are named for people.
const EXAMPLES_MAX: usize = 5;

/// Prints what is different; the exit code is 0 whether or not anything is.
///
/// # Errors
/// One of the two cannot be read.
pub fn run(args: &DiffArgs) -> Result<ExitCode, Failure> {
    // Lengths on the wire are those of the client that a server is asked as.
    let profile = Server::new("", &args.asking)?.profile;
    let (a, b) = (Side::open(&args.a, args, &profile)?, Side::open(&args.b, args, &profile)?);
    let diff = Diff::new(&a, &b);
    let text = if args.json { format!("{:#}\n", diff.to_json()) } else { diff.to_text() };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// One of the two.
struct Side {
    archives: BTreeMap<u8, Archive>,
    /// The master index's length on the wire.
    master_bytes: u64,
    generation: Option<u64>,
}

/// What is known of an archive.
struct Archive {
    /// Of its index's container.
    crc: u32,
    version: u32,
    /// The index's length on the wire.
    index_bytes: u64,
    groups: BTreeMap<u32, Group>,
}

#[derive(Clone, Copy)]
struct Group {
    crc: u32,
    version: u32,
    /// Its length on the wire; none if nothing says it, or the cache lacks the group.
    bytes: Option<u64>,
}

impl Side {
    /// A cache, if there is one by this name; a server otherwise.
    fn open(name: &str, args: &DiffArgs, profile: &Profile) -> Result<Self, Failure> {
        let path = Path::new(name);
        let is_server = !path.exists()
            && name.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if is_server {
            return Self::of_server(&Server::new(name, &args.asking)?);
        }
        let readers = Readers::new(vec![profile.clone()]);
        let options = LoadOptions { skip_corrupt: true, readers, ..LoadOptions::default() };
        Ok(Self::of_snapshot(&load_cache(path, options)?.snapshot, profile.dialect()))
    }

    fn of_snapshot(snapshot: &Snapshot, dialect: Dialect) -> Self {
        let response = |id| snapshot.response_in(dialect, id).unwrap_or_default();
        let mut archives = BTreeMap::new();
        for (id, _) in snapshot.groups(255).filter(|(id, _)| *id != MASTER_INDEX) {
            let Ok(archive) = u8::try_from(id.group) else { continue };
            let framed = response(id);
            let pieces = dialect.framing.container_pieces(framed);
            let container: Vec<u8> = pieces.flatten().copied().collect();
            let crc = crc32fast::hash(&container);
            let entry = Listed { archive, crc, version: None, digest: None };
            // It was decoded when the cache was loaded.
            let Ok(index) = entry.index(&container) else { continue };
            let bytes = |group| {
                let len = response(GroupId { archive, group }).len() as u64;
                (len > 0).then_some(len)
            };
            archives.insert(archive, Archive::new(crc, &index, framed.len() as u64, bytes));
        }
        let master_bytes = response(MASTER_INDEX).len() as u64;
        Self { archives, master_bytes, generation: Some(snapshot.generation()) }
    }

    fn of_server(server: &Server) -> Result<Self, Failure> {
        let mut remote = server.connect()?;
        let master = remote.get(MASTER_INDEX)?;
        let lies = |what: String| {
            let cause = format!("{} contradicts itself: {what}", server.name);
            Failure::new(Exit::CorruptCache, cause, "try again, or ask another server")
        };
        let mut wrong = "its master index is empty".to_owned();
        let readings = readings(&master, &formats_from(server.profile.master));
        for entries in readings.map_err(|error| lies(error.to_string()))? {
            match Self::indexes(&mut remote, &entries, server.profile.framing)? {
                Ok(archives) => {
                    remote.end();
                    let master_bytes = server.profile.framing.framed_len(master.len()) as u64;
                    return Ok(Self { archives, master_bytes, generation: None });
                }
                Err(what) => wrong = what,
            }
        }
        Err(lies(wrong))
    }

    /// The indexes of these archives, the last one first, which shows whether the master index
    /// was read rightly.
    fn indexes(
        remote: &mut Remote,
        entries: &[Listed],
        framing: Framing,
    ) -> Result<Result<BTreeMap<u8, Archive>, String>, Failure> {
        let mut archives = BTreeMap::new();
        for entry in entries.iter().rev() {
            let container = remote.get(entry.id())?;
            let index = match entry.index(&container) {
                Ok(index) => index,
                Err(what) => return Ok(Err(format!("index {}: {what}", entry.id()))),
            };
            let has_lengths = index.flags & FLAG_LENGTHS != 0;
            let lengths: BTreeMap<_, _> =
                index.groups.iter().map(|group| (group.id, group.lengths[0])).collect();
            let bytes = |group: u32| {
                let len = lengths.get(&group).filter(|_| has_lengths)?;
                Some(framing.framed_len(*len as usize) as u64)
            };
            let index_bytes = framing.framed_len(container.len()) as u64;
            archives.insert(entry.archive, Archive::new(entry.crc, &index, index_bytes, bytes));
        }
        Ok(Ok(archives))
    }
}

impl Archive {
    fn new(
        crc: u32,
        index: &ArchiveIndex,
        index_bytes: u64,
        bytes: impl Fn(u32) -> Option<u64>,
    ) -> Self {
        let group = |entry: &crate::protocol::archive_index::IndexEntry| {
            let (crc, version) = (entry.crc, entry.version);
            (entry.id, Group { crc, version, bytes: bytes(entry.id) })
        };
        let groups = index.groups.iter().map(group).collect();
        Self { crc, version: index.version, index_bytes, groups }
    }
}

/// What is different.
struct Diff {
    archives: Vec<ArchiveDiff>,
    generations: [Option<u64>; 2],
    download: Download,
}

/// What a player who has A downloads for B.
#[derive(Clone, Copy, Default)]
struct Download {
    /// Responses: groups, archive indexes, the master index.
    responses: u64,
    /// Of those whose length is known, on the wire.
    bytes: u64,
    /// How many have a length that nothing tells.
    unknown: u64,
}

impl Download {
    fn add(&mut self, bytes: Option<u64>) {
        self.responses += 1;
        self.bytes += bytes.unwrap_or(0);
        self.unknown += u64::from(bytes.is_none());
    }
}

/// What is different in an archive.
struct ArchiveDiff {
    archive: u8,
    /// `added`, `changed` or `gone`.
    how: &'static str,
    versions: [Option<u32>; 2],
    added: Vec<u32>,
    changed: Vec<u32>,
    gone: Vec<u32>,
    download: Download,
}

impl Diff {
    fn new(a: &Side, b: &Side) -> Self {
        let mut download = Download::default();
        download.add(Some(b.master_bytes));
        let mut archives = Vec::new();
        let all: BTreeSet<_> = a.archives.keys().chain(b.archives.keys()).copied().collect();
        for archive in all {
            let (old, new) = (a.archives.get(&archive), b.archives.get(&archive));
            let Some(diff) = ArchiveDiff::new(archive, old, new) else { continue };
            download.responses += diff.download.responses;
            download.bytes += diff.download.bytes;
            download.unknown += diff.download.unknown;
            archives.push(diff);
        }
        Self { archives, generations: [a.generation, b.generation], download }
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for archive in &self.archives {
            archive.write(&mut text);
        }
        let name = |generation: Option<u64>| {
            generation.map_or("the server's cache".to_owned(), |it| format!("generation {it:016x}"))
        };
        let [a, b] = self.generations.map(name);
        if self.archives.is_empty() {
            return format!("{text}no difference: {a} and {b} are the same\n");
        }
        let Download { responses, bytes, unknown } = self.download;
        let unknown = match unknown {
            0 => String::new(),
            unknown => format!(", and {} of unknown length", counted(unknown, "response")),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{a} to {b}: {} differ; a player who has A downloads {}, {} on the wire{unknown}",
            counted(self.archives.len() as u64, "archive"),
            counted(responses, "response"),
            megabytes(bytes),
        );
        text
    }

    fn to_json(&self) -> Value {
        let name = |generation: Option<u64>| generation.map(|it| format!("{it:016x}"));
        json!({
            "generations": self.generations.map(name),
            "archives": self.archives.iter().map(ArchiveDiff::to_json).collect::<Vec<_>>(),
            "download": download_json(self.download),
        })
    }
}

impl ArchiveDiff {
    /// None if there is no difference.
    fn new(archive: u8, old: Option<&Archive>, new: Option<&Archive>) -> Option<Self> {
        let how = match (old, new) {
            (Some(old), Some(new)) if old.crc == new.crc => return None,
            (Some(_), Some(_)) => "changed",
            (None, _) => "added",
            (_, None) => "gone",
        };
        let empty = BTreeMap::new();
        let groups = |side: Option<&Archive>| side.map(|it| it.groups.clone());
        let (before, after) = (groups(old).unwrap_or(empty.clone()), groups(new).unwrap_or(empty));
        let mut diff = Self {
            archive,
            how,
            versions: [old, new].map(|side| side.map(|it| it.version)),
            added: Vec::new(),
            changed: Vec::new(),
            gone: before.keys().filter(|group| !after.contains_key(group)).copied().collect(),
            download: Download::default(),
        };
        if let Some(new) = new {
            diff.download.add(Some(new.index_bytes));
        }
        for (&id, group) in &after {
            match before.get(&id) {
                Some(old) if (old.crc, old.version) == (group.crc, group.version) => continue,
                Some(_) => diff.changed.push(id),
                None => diff.added.push(id),
            }
            diff.download.add(group.bytes);
        }
        Some(diff)
    }

    fn write(&self, text: &mut String) {
        let version = |version: Option<u32>| version.map_or("none".into(), |it| it.to_string());
        let [old, new] = self.versions.map(version);
        let parts = [("added", &self.added), ("changed", &self.changed), ("gone", &self.gone)];
        let parts = parts.into_iter().filter(|(_, groups)| !groups.is_empty());
        let parts: Vec<_> = parts
            .map(|(what, groups)| {
                let names: Vec<_> =
                    groups.iter().take(EXAMPLES_MAX).map(ToString::to_string).collect();
                let more = if groups.len() > names.len() { ", …" } else { "" };
                let count = thousands(groups.len() as u64);
                format!("{count} {what} ({}{more})", names.join(", "))
            })
            .collect();
        let parts = if parts.is_empty() { "no group differs".into() } else { parts.join("; ") };
        let _ = writeln!(
            text,
            "archive {} {}, version {old} to {new}: {parts}; {}",
            self.archive,
            self.how,
            megabytes(self.download.bytes),
        );
    }

    fn to_json(&self) -> Value {
        json!({
            "archive": self.archive,
            "how": self.how,
            "versions": self.versions,
            "added": self.added,
            "changed": self.changed,
            "gone": self.gone,
            "download": download_json(self.download),
        })
    }
}

fn download_json(download: Download) -> Value {
    json!({
        "responses": download.responses,
        "wire_bytes": download.bytes,
        "responses_of_unknown_length": download.unknown,
    })
}
