//! What each revision of the client speaks, as data: one [`Profile`] a range of builds.
//!
//! [`table::all`] has the defaults, of which docs/clients.md names the sources; each field can be
//! set by name ([`Profile::set`]), for clients that differ. [`Clients`] are the profiles that a
//! server admits. The sessions read them, and nothing else knows one build from another.

pub mod field;
pub mod table;

use super::archive_index::FLAG_NAMES;
use super::frame::Framing;
use super::handshake::{Builds, Prefixed, Status, TOKEN_LEN_MAX, show_builds};
use super::master_index::MasterFormat;
use super::request::{Frame, Opcodes};
use super::response::Dialect;
use super::{GROUPS_MAX, GROUPS_NARROW};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// The most integers that may follow status 0. The clients that were read want up to 32.
pub const INTS_MAX: usize = 64;

/// The most profiles that a server admits: the table's and as many again. What is counted by
/// profile has as many places in each worker.
pub const PROFILES_MAX: usize = 32;

/// How a client opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handshake {
    /// Its build, and with `key` 16 bytes that mean nothing to the server.
    Fixed {
        /// Whether the 16 bytes come.
        key: bool,
    },
    /// Length, build, token, and perhaps a language.
    Prefixed(Language),
}

/// Whether a prefixed handshake ends with a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// It does not.
    No,
    /// It does.
    Yes,
    /// Either is taken.
    Either,
}

/// Which responses carry the prefetch bit; the framing decides where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// None.
    Never,
    /// Those to prefetch requests, in the container's compression byte.
    TypeBit,
    /// Those to prefetch requests, in the highest bit of the group in each block's header.
    GroupBit,
    /// As [`Mark::TypeBit`] if the first message after the handshake is opcode 6, else none: what
    /// tells clients apart whose builds overlap.
    ByFirstOp6,
}

/// What a client can read of a cache. What it cannot is logged at start, and served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reads {
    /// Archives that the client opens, from 0 on; 0 if that is not known.
    pub archives_min: u8,
    /// Whether it can unpack LZMA.
    pub lzma: bool,
    /// The youngest format of archive indexes that it takes.
    pub index_format_max: u8,
    /// The flags of archive indexes that it knows.
    pub index_flags: u8,
}

/// What the clients of a range of builds speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What settings and metrics call it.
    pub name: Cow<'static, str>,
    /// Its builds.
    pub builds: RangeInclusive<u32>,
    /// How it opens a connection.
    pub handshake: Handshake,
    /// What follows status 0: weights of the client's progress bar, of which only the number
    /// matters. At most [`INTS_MAX`].
    pub ints: Vec<i32>,
    /// How long its messages are.
    pub frame: Frame,
    /// The opcodes that it may send.
    pub opcodes: Opcodes,
    /// What its opcode 6 says.
    pub connected: u32,
    /// How responses are cut.
    pub framing: Framing,
    /// Which responses carry the prefetch bit.
    pub mark: Mark,
    /// Whether a rekey has an effect.
    pub xor: bool,
    /// Requests that it keeps in flight, urgent and prefetch.
    pub in_flight: [u16; 2],
    /// The master index that it reads.
    pub master: MasterFormat,
    /// What a wrong token is answered with.
    pub bad_token: Status,
    /// Whether a response may be broken off at a block's edge (docs/protocol.md, "Breaking off").
    pub break_off: bool,
    /// What it can read of a cache.
    pub reads: Reads,
}

/// Why a profile, or a set of them, cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A field has a value that does not go with another.
    #[error("profile {profile}: {cause}")]
    Contradiction {
        /// Its name.
        profile: String,
        /// What does not go with what.
        cause: String,
    },
    /// Builds are to be served of which no profile says how.
    #[error("no profile says what builds {from} to {to} speak")]
    UnknownBuilds {
        /// The first of them.
        from: u32,
        /// The last.
        to: u32,
    },
    /// More profiles than a connection can tell apart.
    #[error("{count} profiles are too many; at most {PROFILES_MAX} can be served")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl Profile {
    /// What build 550 speaks.
    #[must_use]
    pub fn build_550() -> Self {
        Self {
            name: Cow::Borrowed("rs2-530"),
            builds: 530..=632,
            handshake: Handshake::Fixed { key: false },
            ints: Vec::new(),
            frame: Frame::Four,
            opcodes: Opcodes::BUILD_550,
            connected: 3,
            framing: Framing::Marked3,
            mark: Mark::TypeBit,
            xor: true,
            in_flight: [20, 20],
            master: MasterFormat::Versioned,
            bad_token: Status::OutOfDate,
            break_off: true,
            reads: Reads {
                archives_min: 29,
                lzma: false,
                index_format_max: 6,
                index_flags: FLAG_NAMES,
            },
        }
    }

    /// How its requests are answered.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        Dialect { framing: self.framing, master: self.master }
    }

    /// Whether it can ask for groups of 65,536 and more.
    #[must_use]
    pub const fn asks_wide(&self) -> bool {
        self.frame.is_wide() && !matches!(self.framing, Framing::Marked3)
    }

    /// Groups from this number on cannot be asked for.
    #[must_use]
    pub const fn groups_max(&self) -> u32 {
        if self.asks_wide() { GROUPS_MAX } else { GROUPS_NARROW }
    }

    /// Looks at fields together.
    ///
    /// # Errors
    /// Two of them contradict each other.
    pub fn check(&self) -> Result<(), ProfileError> {
        let cause = match (self.framing.is_multi(), self.mark) {
            (true, Mark::TypeBit | Mark::ByFirstOp6) => {
                "with an answer of multi-* the prefetch bit stands in the group: set mark = \
                 \"group-bit\" or \"never\""
            }
            (false, Mark::GroupBit) => {
                "with an answer of marked-* the prefetch bit stands in the compression type: set \
                 mark = \"type-bit\", \"by-first-op-6\" or \"never\""
            }
            _ if self.framing.is_multi() && self.break_off => {
                "with an answer of multi-* blocks of several responses alternate, and none is \
                 broken off: set break_off = false"
            }
            _ if self.builds.is_empty() => "builds: the lower number stands first, as in 701..=741",
            _ if self.ints.len() > INTS_MAX => "ints: at most 64 of them",
            _ => return Ok(()),
        };
        Err(ProfileError::Contradiction { profile: self.name.to_string(), cause: cause.into() })
    }
}

/// The clients that a server serves: profiles, the builds of them that are admitted, and how much
/// a session may hold.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Those of which a build is admitted; of two that have a build, the first counts.
    profiles: Vec<Profile>,
    /// What each sends right behind status 0.
    greetings: Vec<Box<[u8]>>,
    builds: Builds,
    /// Which builds are asked for a token; the first that has the build counts.
    tokens: Vec<(RangeInclusive<u32>, String)>,
    /// Requests a class that wait at most. Real clients send 20 to 500.
    queue_len_max: usize,
}

/// What a handshake has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// The number of the profile.
    pub(super) number: u8,
    /// Bytes of the handshake that are still to come.
    pub(super) skip: u8,
}

impl Clients {
    /// The profiles of `profiles` that have a build of `builds`.
    ///
    /// # Errors
    /// A profile contradicts itself, or builds are admitted that none has.
    pub fn new(
        profiles: Vec<Profile>,
        builds: Builds,
        queue_len_max: usize,
    ) -> Result<Self, ProfileError> {
        if let Builds::Only(ranges) = &builds {
            for range in ranges {
                if let Some((from, to)) = first_gap(range, &profiles) {
                    return Err(ProfileError::UnknownBuilds { from, to });
                }
            }
        }
        let mut profiles = profiles;
        profiles.retain(|profile| builds.admits_some_of(&profile.builds));
        profiles.iter().try_for_each(Profile::check)?;
        if profiles.len() > PROFILES_MAX {
            return Err(ProfileError::TooMany { count: profiles.len() });
        }
        let greetings = profiles.iter().map(greeting).collect();
        Ok(Self { profiles, greetings, builds, tokens: Vec::new(), queue_len_max })
    }

    /// Clients that all speak as build 550 does, with or without the prefetch bit, whatever their
    /// builds are.
    #[must_use]
    pub fn like_550(builds: Builds, prefetch_bit: bool, queue_len_max: usize) -> Self {
        let mark = if prefetch_bit { Mark::TypeBit } else { Mark::Never };
        let profile = Profile { builds: 0..=u32::MAX, mark, ..Profile::build_550() };
        let greetings = vec![greeting(&profile)];
        Self { profiles: vec![profile], greetings, builds, tokens: Vec::new(), queue_len_max }
    }

    /// Has clients of these builds show a token. One beyond [`TOKEN_LEN_MAX`] is never right.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Vec<(RangeInclusive<u32>, String)>) -> Self {
        self.tokens = tokens;
        self
    }

    /// The profiles, by number.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// Who they are, in a line: `rs2-530 (550) and rs2-718 (701..=741)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let served = self.profiles.iter().map(|profile| {
            let builds: Vec<_> = match &self.builds {
                Builds::Any => vec![show_builds(&profile.builds)],
                Builds::Only(ranges) => {
                    let (from, to) = (*profile.builds.start(), *profile.builds.end());
                    let met = ranges.iter().filter(|r| *r.start() <= to && *r.end() >= from);
                    let part = |range: &RangeInclusive<u32>| {
                        show_builds(&(from.max(*range.start())..=to.min(*range.end())))
                    };
                    met.map(part).collect()
                }
            };
            format!("{} ({})", profile.name, builds.join(", "))
        });
        let served: Vec<_> = served.collect();
        match &served[..] {
            [] => "nobody".to_owned(),
            [one] => one.clone(),
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
        }
    }

    /// The builds that are served of those that the profiles have.
    #[must_use]
    pub fn builds(&self) -> &Builds {
        &self.builds
    }

    /// Requests a class that wait at most.
    #[inline]
    #[must_use]
    pub fn queue_len_max(&self) -> usize {
        self.queue_len_max
    }

    /// What goes out right behind status 0 to clients of profile `number`; never keyed.
    #[must_use]
    pub fn greeting(&self, number: usize) -> &[u8] {
        self.greetings.get(number).map_or(&[], |greeting| greeting)
    }

    /// How responses are asked for: each dialect once.
    #[must_use]
    pub fn dialects(&self) -> Vec<Dialect> {
        let mut dialects = Vec::new();
        for dialect in self.profiles.iter().map(Profile::dialect) {
            if !dialects.contains(&dialect) {
                dialects.push(dialect);
            }
        }
        dialects
    }

    /// Whether groups of 65,536 and more can be asked for.
    #[must_use]
    pub fn ask_wide(&self) -> bool {
        self.profiles.iter().any(Profile::asks_wide)
    }

    /// Whose fixed handshake this is.
    pub(super) fn admit_fixed(&self, build: u32) -> Result<Admitted, Status> {
        let fits = |handshake| matches!(handshake, Handshake::Fixed { .. });
        let number = self.find(build, fits)?;
        let key = Handshake::Fixed { key: true };
        let has_key = self.profiles.get(usize::from(number)).is_some_and(|p| p.handshake == key);
        let skip = if has_key { 16 } else { 0 };
        Ok(Admitted { number, skip })
    }

    /// Whose prefixed handshake this is.
    pub(super) fn admit_prefixed(&self, handshake: &Prefixed<'_>) -> Result<Admitted, Status> {
        let has_language = handshake.language.is_some();
        let fits = |handshake| match handshake {
            Handshake::Fixed { .. } => false,
            Handshake::Prefixed(Language::Either) => true,
            Handshake::Prefixed(language) => (language == Language::Yes) == has_language,
        };
        let number = self.find(handshake.build, fits)?;
        let wanted = self.tokens.iter().find(|(builds, _)| builds.contains(&handshake.build));
        let bad_token = self.profiles.get(usize::from(number)).map(|profile| profile.bad_token);
        match (wanted, bad_token) {
            (Some((_, token)), Some(status)) if token.as_bytes() != handshake.token => Err(status),
            _ => Ok(Admitted { number, skip: 0 }),
        }
    }

    fn find(&self, build: u32, fits: impl Fn(Handshake) -> bool) -> Result<u8, Status> {
        let is_its = |profile: &Profile| profile.builds.contains(&build) && fits(profile.handshake);
        let number = self.profiles.iter().position(is_its).filter(|_| self.builds.admits(build));
        number.and_then(|number| u8::try_from(number).ok()).ok_or(Status::OutOfDate)
    }
}

fn greeting(profile: &Profile) -> Box<[u8]> {
    profile.ints.iter().flat_map(|int| int.to_be_bytes()).collect()
}

/// The first builds of `range` that no profile has.
fn first_gap(range: &RangeInclusive<u32>, profiles: &[Profile]) -> Option<(u32, u32)> {
    let mut next = *range.start();
    loop {
        let has_it = profiles.iter().filter(|profile| profile.builds.contains(&next));
        let Some(end) = has_it.map(|profile| *profile.builds.end()).max() else {
            let starts = profiles.iter().map(|profile| *profile.builds.start());
            let last = starts
                .filter(|&start| start > next)
                .min()
                .map_or(u32::MAX, |s| s.saturating_sub(1));
            return Some((next, last.min(*range.end())));
        };
        if end >= *range.end() {
            return None;
        }
        next = end.saturating_add(1);
    }
}

/// Whether a token can be right at all.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOKEN_LEN_MAX && !text.bytes().any(|byte| byte == 0)
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
