//! `js5d fetch`: mirrors the cache of a running server.
//!
//! Each container is checked against its index and appended to a journal beside the target; so a
//! mirror that is killed can be continued. When all groups are there, the store is written under a
//! temporary name, renamed in one step, and loaded as a server would load it.
//!
//! A server does not send a group's version. So the trailer of each stored group is made of the
//! version in its index.

mod journal;
pub(super) mod remote;
mod show;
mod update;

use super::convert::{form, unwritten};
use super::crcs::load_cache;
use super::text::{counted, megabytes, print};
use crate::cache::{StagedStore, StoreError, StoreWriter, WriteSummary};
use crate::catalog::{LoadOptions, Readers};
use crate::cli::FetchArgs;
use crate::failure::{Exit, Failure};
use crate::protocol::listing::{Listed, formats_from, readings};
use crate::protocol::{ARCHIVE_INDEXES, Class, GroupId, MASTER_INDEX};
use journal::Journal;
use remote::{BUILD, Remote, RemoteError, Server};
use show::Show;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// How often a group is asked for in vain, or comes wrong, before it is given up.
const TRIES_MAX: u8 = 2;
/// Between two connections of which the first brought nothing: as often as this, a second.
const PAUSE_MAX: u32 = 10;
/// How many missing groups are named.
const MISSING_SHOWN_MAX: usize = 20;

/// Mirrors a server.
///
/// # Errors
/// It cannot be reached, stops sending, contradicts itself or lacks groups; or the mirror cannot be
/// written.
pub fn run(args: &FetchArgs) -> Result<ExitCode, Failure> {
    let server = Server::new(&args.server, &args.asking)?;
    let is_there = std::fs::symlink_metadata(&args.to).is_ok();
    if is_there && !args.update {
        let cause = format!("{} is there already", args.to.display());
        let remedy = "name another place, or bring it up to date with --update";
        return Err(Failure::new(Exit::Usage, cause, remedy));
    }
    let mut journal = Journal::open(&journal_path(&args.to)).map_err(unwritten)?;
    if is_there {
        update::take_over(&args.to, &mut journal)?;
    }
    let mut mirror = Mirror::new(args, server, journal);
    mirror.fetch()?;
    print(mirror.write(args)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Where what was fetched is kept until the mirror is whole.
fn journal_path(to: &Path) -> PathBuf {
    let to = std::path::absolute(to).unwrap_or_else(|_| to.into());
    let mut name = OsString::from(to);
    name.push(".js5d-fetch");
    name.into()
}

/// A group that is to be in the mirror.
#[derive(Clone, Copy, Debug)]
struct Want {
    crc: u32,
    version: u32,
    tries: u8,
}

/// What one server's master index comes down to.
#[derive(Default)]
struct Plan {
    master: Vec<u8>,
    archives: Vec<Listed>,
    wants: BTreeMap<GroupId, Want>,
    /// Groups with numbers that this client cannot ask for.
    beyond_wire: u64,
}

/// A mirror on its way.
struct Mirror {
    server: Server,
    journal: Journal,
    plan: Plan,
    /// What is to be asked for, the next first.
    queue: VecDeque<GroupId>,
    missing: Vec<GroupId>,
    skip_missing: bool,
    /// Requests at once.
    window: usize,
    /// How many are asked for one at a time, to find out which one ends the connection.
    careful: usize,
    attempts_max: u16,
    /// Requests for groups, archive indexes included, over all connections.
    asked: u64,
    /// Groups that were received and are right.
    answered: u64,
    show: Show,
}

impl Mirror {
    fn new(args: &FetchArgs, server: Server, journal: Journal) -> Self {
        Self {
            server,
            journal,
            plan: Plan::default(),
            queue: VecDeque::new(),
            missing: Vec::new(),
            skip_missing: args.skip_missing,
            window: args.window.into(),
            careful: 0,
            attempts_max: args.attempts,
            asked: 0,
            answered: 0,
            show: Show::new(),
        }
    }

    /// Asks, over as many connections as it takes, until everything is in the journal.
    fn fetch(&mut self) -> Result<(), Failure> {
        let mut barren = 0;
        loop {
            let answered_before = self.answered;
            let (error, blames_server) = match self.connection() {
                Ok(()) if self.queue.is_empty() => break,
                Ok(()) => continue,
                Err(Ended::Failed(failure)) => {
                    self.show.end();
                    return Err(failure);
                }
                Err(Ended::Lost { error, blames_server }) => (error, blames_server),
            };
            if self.answered > answered_before {
                barren = 0;
            } else if blames_server {
                barren += 1;
            }
            // Groups that may be left out are bounded by their own number.
            let may_go_on = self.skip_missing && self.answered > 0;
            if error.is_final() || (barren >= self.attempts_max && !may_go_on) {
                self.show.end();
                return Err(error.into());
            }
            self.show.say(&format!("{error}; connecting again"));
            if barren > 0 && blames_server {
                // Groups that the server lacks may stand together: others have their turn.
                fastrand::shuffle(self.queue.make_contiguous());
                thread::sleep(Duration::from_secs(1) * u32::from(barren).min(PAUSE_MAX));
            }
        }
        self.show.end();
        self.missing_groups()
    }

    /// Fetches over one connection until nothing is left to ask for, or the connection is lost.
    fn connection(&mut self) -> Result<(), Ended> {
        let mut remote = self.server.connect()?;
        let master = remote.get(MASTER_INDEX)?;
        if master != self.plan.master {
            self.make_plan(&mut remote, master)?;
        }
        match self.pump(&mut remote) {
            Ok(()) => {
                remote.end();
                Ok(())
            }
            Err(Ended::Lost { error, .. }) => {
                let blames_server = self.give_back(&remote.outstanding(), &error);
                Err(Ended::Lost { error, blames_server })
            }
            Err(failed) => Err(failed),
        }
    }

    /// Reads the indexes, to find out which groups to fetch.
    fn make_plan(&mut self, remote: &mut Remote, master: Vec<u8>) -> Result<(), Ended> {
        let server = self.server.name.clone();
        let lies = |what: &str| {
            let cause = format!("{server} contradicts itself: {what}");
            let remedy = "try again: it may have loaded another cache meanwhile";
            Ended::Failed(Failure::new(Exit::CorruptCache, cause, remedy))
        };
        let readings = readings(&master, &formats_from(self.server.profile.master))
            .map_err(|error| lies(&format!("its master index cannot be read: {error}")))?;
        let mut wrong = None;
        for archives in readings {
            match (self.read_indexes(remote, &archives), &wrong) {
                (Ok((wants, beyond_wire)), _) => {
                    let is_to_come = |(id, want): (&GroupId, &Want)| {
                        (!self.journal.has(*id, want.crc)).then_some(*id)
                    };
                    self.queue = wants.iter().filter_map(is_to_come).collect();
                    self.missing.clear();
                    let there = wants.len() - self.queue.len();
                    self.show.begin(there as u64, wants.len() as u64);
                    self.plan = Plan { master, archives, wants, beyond_wire };
                    return Ok(());
                }
                // It may be that the master index was not read rightly.
                (Err(Unread::Wrong { what, is_first: true }), None) => wrong = Some(what),
                (Err(Unread::Wrong { is_first: true, .. }), Some(_)) => {}
                (Err(Unread::Wrong { what, .. }), _) => return Err(lies(&what)),
                // An index that only a wrong reading knows is not answered.
                (Err(Unread::Ended(Ended::Lost { .. })), Some(what)) => return Err(lies(what)),
                (Err(Unread::Ended(ended)), _) => return Err(ended),
            }
        }
        Err(lies(wrong.as_deref().unwrap_or("its master index is empty")))
    }

    /// Reads the indexes of these archives, the last one first, which shows whether the master
    /// index was read rightly. Comes back with what is to be fetched, and how many groups cannot.
    fn read_indexes(
        &mut self,
        remote: &mut Remote,
        archives: &[Listed],
    ) -> Result<(BTreeMap<GroupId, Want>, u64), Unread> {
        let (mut wants, mut beyond_wire) = (BTreeMap::new(), 0);
        for (place, entry) in archives.iter().rev().enumerate() {
            let id = entry.id();
            let is_here = self.journal.has(id, entry.crc);
            let container = if is_here {
                self.journal.read(id).map_err(unwritten)?
            } else {
                self.asked += 1;
                remote.get(id)?
            };
            let index = entry.index(&container).map_err(|wrong| Unread::Wrong {
                what: format!("index {id}: {wrong}"),
                is_first: place == 0,
            })?;
            if !is_here {
                self.journal.append(id, &container).map_err(unwritten)?;
            }
            for group in index.groups {
                let want = Want { crc: group.crc, version: group.version, tries: 0 };
                if group.id < self.server.profile.groups_max() {
                    wants.insert(GroupId { archive: entry.archive, group: group.id }, want);
                } else {
                    beyond_wire += 1;
                }
            }
        }
        Ok((wants, beyond_wire))
    }

    /// Keeps as many requests on their way as the window allows, and takes what comes.
    fn pump(&mut self, remote: &mut Remote) -> Result<(), Ended> {
        loop {
            let window = if self.careful > 0 { 1 } else { self.window };
            while remote.waiting() < window {
                let Some(id) = self.queue.pop_front() else { break };
                self.asked += 1;
                remote.request(Class::Prefetch, id);
            }
            if remote.waiting() == 0 {
                return Ok(());
            }
            let (id, container) = remote.receive()?;
            self.take(id, &container)?;
            while let Some((id, container)) = remote.received() {
                self.take(id, &container)?;
            }
        }
    }

    /// Checks a container against its index, and keeps it.
    fn take(&mut self, id: GroupId, container: &[u8]) -> Result<(), Ended> {
        let Some(want) = self.plan.wants.get_mut(&id) else { return Ok(()) };
        let found = crc32fast::hash(container);
        self.careful = self.careful.saturating_sub(1);
        if found == want.crc {
            self.answered += 1;
            self.journal.append(id, container).map_err(unwritten)?;
            self.show.one(container.len());
            return Ok(());
        }
        // The server may have loaded another cache; the next connection shows it.
        want.tries += 1;
        self.queue.push_back(id);
        let server = &self.server.name;
        let lie = format!(
            "{server} contradicts itself: group {id} has the CRC-32 {found:08x}, its index says \
             {:08x}",
            want.crc
        );
        if want.tries < TRIES_MAX {
            self.show.say(&format!("{lie}; asking again"));
            return Ok(());
        }
        let remedy = "mirror another server; what was fetched is kept";
        Err(Ended::Failed(Failure::new(Exit::CorruptCache, lie, remedy)))
    }

    /// Takes back the requests that were not answered. True if the server failed, and the reason is
    /// not a group that it may lack.
    ///
    /// A server that ignores a request for a missing group answers the others; if it then sends
    /// nothing more, the unanswered groups are missing, or the server does not work. A server that
    /// closes the connection for a missing group leaves other requests unanswered, too: these are
    /// asked for again, one at a time.
    fn give_back(&mut self, outstanding: &[GroupId], error: &RemoteError) -> bool {
        let is_stalled = matches!(error, RemoteError::Stalled { .. });
        let is_alone = outstanding.len() == 1;
        let mut blames_server = false;
        self.careful = if is_stalled { 0 } else { outstanding.len() };
        for &id in outstanding.iter().rev() {
            let Some(want) = self.plan.wants.get_mut(&id) else { continue };
            if is_stalled || is_alone {
                blames_server |= is_stalled == (want.tries == 0);
                want.tries += 1;
            }
            if want.tries >= TRIES_MAX {
                self.missing.push(id);
                self.careful = 0;
            } else if is_stalled {
                self.queue.push_back(id);
            } else {
                self.queue.push_front(id);
            }
        }
        blames_server
    }

    /// Whether the mirror is whole, or may lack what it lacks.
    fn missing_groups(&mut self) -> Result<(), Failure> {
        self.missing.sort_unstable();
        if self.missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> =
            self.missing.iter().take(MISSING_SHOWN_MAX).map(ToString::to_string).collect();
        let more = if self.missing.len() > names.len() { ", …" } else { "" };
        let cause = format!(
            "{} does not answer for {} that its indexes list: {}{more}",
            self.server.name,
            counted(self.missing.len() as u64, "group"),
            names.join(", "),
        );
        if self.skip_missing {
            self.show.say(&cause);
            return Ok(());
        }
        let remedy = "leave them out with --skip-missing; what was fetched is kept";
        Err(Failure::new(Exit::CorruptCache, cause, remedy))
    }

    /// Writes the mirror, and sees that a server would serve it.
    fn write(mut self, args: &FetchArgs) -> Result<String, Failure> {
        let (written, missing) = (self.store(args).map_err(unwritten)?, self.missing.len());
        let profile = &self.server.profile;
        let readers = Readers::new(vec![profile.clone()]);
        let loaded = load_cache(&args.to, LoadOptions { readers, ..LoadOptions::default() })?;
        self.journal.remove().map_err(unwritten)?;
        let totals = loaded.snapshot.totals();
        let to = args.to.display();
        // Whom a server serves that is not told is what it was asked as.
        let build = match self.server.build() {
            BUILD => String::new(),
            build => format!(" --build {build}"),
        };
        let mut text = String::new();
        if self.plan.beyond_wire > 0 {
            text = format!(
                "{} left out whose numbers clients of {} cannot ask for\n",
                counted(self.plan.beyond_wire, "group"),
                profile.name,
            );
        }
        if missing > 0 {
            text += &format!("{} left out\n", counted(missing as u64, "group"));
        }
        Ok(format!(
            "{text}asked for {}\nmirrored {}, {}, {}, generation {:016x}, to {to}\nserve it with: \
             js5d --cache {to}{build}\n",
            counted(self.asked, "group"),
            counted(totals.archives as u64, "archive"),
            counted(written.groups as u64, "group"),
            megabytes(written.bytes),
            loaded.snapshot.generation(),
        ))
    }

    fn store(&mut self, args: &FetchArgs) -> Result<WriteSummary, StoreError> {
        let mut staged = StagedStore::create(&args.to, form(args.format), args.update)?;
        match self.put_all(staged.writer()) {
            Ok(()) => staged.finish(),
            Err(error) => {
                staged.discard();
                Err(error)
            }
        }
    }

    fn put_all(&mut self, writer: &mut StoreWriter) -> Result<(), StoreError> {
        writer.add_archive(ARCHIVE_INDEXES);
        for (id, want) in &self.plan.wants {
            if self.missing.binary_search(id).is_ok() {
                continue;
            }
            let mut stored = self.journal.read(*id)?;
            let [.., high, low] = want.version.to_be_bytes();
            stored.extend([high, low]);
            writer.put(id.archive, id.group, &stored)?;
        }
        // Archive indexes last, and without a trailer: groups without one are not served.
        for entry in &self.plan.archives {
            writer.add_archive(entry.archive);
            let container = self.journal.read(entry.id())?;
            writer.put(ARCHIVE_INDEXES, entry.archive.into(), &container)?;
        }
        Ok(())
    }
}

/// How a connection ends before all is there.
enum Ended {
    /// Another connection may bring more.
    Lost { error: RemoteError, blames_server: bool },
    /// No other connection would.
    Failed(Failure),
}

impl From<RemoteError> for Ended {
    fn from(error: RemoteError) -> Self {
        Self::Lost { error, blames_server: true }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Why the archive indexes could not be read.
enum Unread {
    /// One is not what the master index says.
    Wrong { what: String, is_first: bool },
    /// The connection ended, or the mirror.
    Ended(Ended),
}

impl<T: Into<Ended>> From<T> for Unread {
    fn from(ended: T) -> Self {
        Self::Ended(ended.into())
    }
}
