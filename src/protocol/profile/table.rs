//! All that is known of the field's clients, by build.
//!
//! docs/clients.md has the sources, and says which borders between rows are not pinned. A row is
//! written as what differs from an older one.

use super::super::archive_index::{FLAG_DIGESTS, FLAG_LENGTHS, FLAG_NAMES, FLAG_UNCOMPRESSED_CRCS};
use super::super::frame::Framing;
use super::super::handshake::Status;
use super::super::master_index::MasterFormat;
use super::super::request::{Frame, Opcodes};
use super::{Handshake, Language, Mark, Profile, Reads};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// Every row, by build.
#[must_use]
pub fn all() -> Vec<Profile> {
    let rs2_530 = Profile::build_550();
    let rs2_634 = Profile {
        ints: ones(27),
        master: MasterFormat::Digests,
        reads: reads(7, FLAG_NAMES | FLAG_DIGESTS),
        ..row("rs2-634", 633..=700, &rs2_530)
    };
    let rs2_718 = Profile {
        handshake: Handshake::Prefixed(Language::No),
        frame: Frame::Six,
        framing: Framing::Marked5,
        in_flight: [50, 20],
        ..row("rs2-718", 701..=741, &rs2_634)
    };
    let rs3_742 = Profile {
        ints: ones(26),
        bad_token: Status::SessionExpired,
        ..row("rs3-742", 742..=792, &rs2_718)
    };
    let young = young(&rs3_742);
    let mut all = old(&rs2_530);
    all.extend([rs2_530, rs2_634, rs2_718, rs3_742]);
    all.extend(young);
    all
}

/// Short names of the youngest of a family.
const SHORT_NAMES: [(&str, &str); 2] = [("oldschool", "osrs-223"), ("nxt", "nxt-926")];

/// Families of clients that go by one name, and what the names of their profiles begin with.
const FAMILIES: [(&str, &str); 2] = [("oldschool", "osrs"), ("nxt", "nxt-")];

/// The builds of the table's clients that go by this name: `oldschool` or `nxt`.
#[must_use]
pub fn family(name: &str) -> Option<RangeInclusive<u32>> {
    let (_, begin) = FAMILIES.iter().find(|(family, _)| *family == name)?;
    let members = all().into_iter().filter(|profile| profile.name.starts_with(begin));
    let builds = members.map(|profile| profile.builds.into_inner());
    let (first, last) = builds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
    Some(first..=last)
}

/// The client of the table that a build or a name stands for: see [`client_of`].
#[must_use]
pub fn client(text: &str) -> Option<(Profile, u32)> {
    client_of(all(), text)
}

/// The client of these profiles that a build or a name stands for, and the build that it announces:
/// the one that the profile is named for, or else the first of its builds. Of two that have a
/// build, the first counts. `oldschool` and `nxt` are the youngest of the table's.
#[must_use]
pub fn client_of(profiles: Vec<Profile>, text: &str) -> Option<(Profile, u32)> {
    let mut profiles = profiles.into_iter();
    if let Ok(build) = text.parse() {
        return profiles.find(|p| p.builds.contains(&build)).map(|profile| (profile, build));
    }
    let short = SHORT_NAMES.iter().find(|(short, _)| *short == text);
    let name = short.map_or(text, |(_, name)| name);
    let profile = profiles.find(|profile| profile.name == name)?;
    let named = profile.name.rsplit('-').next().and_then(|end| end.parse().ok());
    let build = named.filter(|build| profile.builds.contains(build));
    let build = build.unwrap_or(*profile.builds.start());
    Some((profile, build))
}

/// What [`client_of`] takes, for messages.
#[must_use]
pub fn names(profiles: &[Profile]) -> String {
    let short = SHORT_NAMES.iter().map(|(short, _)| (*short).to_owned());
    let names = profiles.iter().map(|profile| profile.name.to_string());
    names.chain(short).collect::<Vec<_>>().join(", ")
}

/// Old School, and the clients before opcode 6.
fn old(rs2_530: &Profile) -> Vec<Profile> {
    let rs2_474 = Profile {
        mark: Mark::ByFirstOp6,
        break_off: false,
        reads: reads(6, FLAG_NAMES),
        ..row("rs2-474", 461..=507, rs2_530)
    };
    let rs2_508 = Profile { break_off: true, ..row("rs2-508", 508..=529, &rs2_474) };
    let rs2_435 = Profile { master: MasterFormat::Original, ..row("rs2-435", 400..=460, &rs2_474) };
    let osrs = Profile {
        mark: Mark::Never,
        in_flight: [200, 200],
        reads: reads(7, FLAG_NAMES),
        ..row("osrs", 1..=222, &rs2_474)
    };
    let osrs_223 =
        Profile { handshake: Handshake::Fixed { key: true }, ..row("osrs-223", 223..=399, &osrs) };
    vec![osrs, osrs_223, rs2_435, rs2_474, rs2_508]
}

/// Those whose blocks name their response.
fn young(rs3_742: &Profile) -> Vec<Profile> {
    let all_flags = FLAG_NAMES | FLAG_DIGESTS | FLAG_LENGTHS | FLAG_UNCOMPRESSED_CRCS;
    let rs3_831 = Profile {
        handshake: Handshake::Prefixed(Language::Either),
        ints: ones(25),
        framing: Framing::Multi512,
        mark: Mark::GroupBit,
        in_flight: [500, 500],
        master: MasterFormat::Lengths,
        break_off: false,
        connected: 4,
        reads: Reads { lzma: true, ..reads(7, all_flags) },
        ..row("rs3-831", 831..=875, rs3_742)
    };
    let rs3_876 = Profile {
        handshake: Handshake::Prefixed(Language::Yes),
        ints: ones(26),
        framing: Framing::Multi102400,
        ..row("rs3-876", 876..=909, &rs3_831)
    };
    let rs3_910 = Profile { ints: ones(27), ..row("rs3-910", 910..=913, &rs3_876) };
    let nxt_918 = Profile {
        ints: ones(31),
        frame: Frame::Ten,
        opcodes: Opcodes::of(&[0, 1, 2, 3, 4, 6, 7, 17, 32, 33]),
        connected: 5,
        ..row("nxt-918", 914..=925, &rs3_910)
    };
    let nxt_926 = Profile { ints: Vec::new(), ..row("nxt-926", 926..=u32::MAX, &nxt_918) };
    vec![rs3_831, rs3_876, rs3_910, nxt_918, nxt_926]
}

fn row(name: &'static str, builds: RangeInclusive<u32>, base: &Profile) -> Profile {
    Profile { name: Cow::Borrowed(name), builds, ..base.clone() }
}

fn ones(count: usize) -> Vec<i32> {
    vec![1; count]
}

const fn reads(index_format_max: u8, index_flags: u8) -> Reads {
    Reads { archives_min: 0, lzma: false, index_format_max, index_flags }
}
