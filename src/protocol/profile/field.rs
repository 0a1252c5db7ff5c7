//! The fields of a profile by name, for settings: set from text, and printed as text that sets
//! them.

use super::super::frame::Framing;
use super::super::handshake::{Status, parse_builds, show_builds};
use super::super::master_index::MasterFormat;
use super::super::request::{Frame, Opcodes};
use super::{Handshake, INTS_MAX, Language, Mark, Profile};

/// A field by its name.
#[derive(Debug)]
pub struct Field {
    /// In settings.
    pub name: &'static str,
    /// What can be said of it, in words.
    pub wanted: &'static str,
    set: fn(&mut Profile, &str) -> bool,
    show: fn(&Profile) -> String,
}

/// Every field of a profile, in the order in which it is printed.
pub const FIELDS: &[Field] = &[
    Field {
        name: "builds",
        wanted: "a build (718) or a range (701..=741)",
        set: |profile, text| put(&mut profile.builds, parse_builds(text)),
        show: |profile| show_builds(&profile.builds),
    },
    Field {
        name: "handshake",
        wanted: "fixed, fixed-key, prefixed, prefixed-language or prefixed-either",
        set: |profile, text| put(&mut profile.handshake, by_name(HANDSHAKES, text)),
        show: |profile| name_of(HANDSHAKES, &profile.handshake),
    },
    Field {
        name: "ints",
        wanted: "how many (27), or each of them (1441,78700,...), 64 at most",
        set: |profile, text| put(&mut profile.ints, ints(text)),
        show: show_ints,
    },
    Field {
        name: "frame",
        wanted: "4, 6 or 10",
        set: |profile, text| put(&mut profile.frame, by_name(FRAMES, text)),
        show: |profile| name_of(FRAMES, &profile.frame),
    },
    Field {
        name: "opcodes",
        wanted: "some of 0,1,2,3,4,6,7,17,32,33",
        set: |profile, text| put(&mut profile.opcodes, opcodes(text)),
        show: show_opcodes,
    },
    Field {
        name: "connected",
        wanted: "a number below 16777216",
        set: |profile, text| {
            put(&mut profile.connected, text.parse().ok().filter(|&value| value < 1 << 24))
        },
        show: |profile| profile.connected.to_string(),
    },
    Field {
        name: "answer",
        wanted: "marked-3, marked-5, multi-512 or multi-102400",
        set: |profile, text| {
            let named = Framing::ALL.into_iter().find(|framing| framing.name() == text);
            put(&mut profile.framing, named)
        },
        show: |profile| profile.framing.name().to_owned(),
    },
    Field {
        name: "mark",
        wanted: "never, type-bit, group-bit or by-first-op-6",
        set: |profile, text| put(&mut profile.mark, by_name(MARKS, text)),
        show: |profile| name_of(MARKS, &profile.mark),
    },
    Field {
        name: "xor",
        wanted: "true or false",
        set: |profile, text| put(&mut profile.xor, text.parse().ok()),
        show: |profile| profile.xor.to_string(),
    },
    Field {
        name: "in_flight",
        wanted: "urgent and prefetch requests (20,20)",
        set: |profile, text| put(&mut profile.in_flight, in_flight(text)),
        show: |profile| profile.in_flight.map(|count| count.to_string()).join(","),
    },
    Field {
        name: "master",
        wanted: "original, versioned, digests or lengths",
        set: |profile, text| {
            let named = |format: &MasterFormat| format.to_string().to_lowercase() == text;
            put(&mut profile.master, MasterFormat::ALL.into_iter().find(named))
        },
        show: |profile| profile.master.to_string().to_lowercase(),
    },
    Field {
        name: "bad_token",
        wanted: "6 (out of date) or 48 (session expired)",
        set: |profile, text| put(&mut profile.bad_token, by_name(BAD_TOKENS, text)),
        show: |profile| name_of(BAD_TOKENS, &profile.bad_token),
    },
    Field {
        name: "break_off",
        wanted: "true or false",
        set: |profile, text| put(&mut profile.break_off, text.parse().ok()),
        show: |profile| profile.break_off.to_string(),
    },
    Field {
        name: "archives_min",
        wanted: "a number of archives, 0 if it is not known",
        set: |profile, text| put(&mut profile.reads.archives_min, text.parse().ok()),
        show: |profile| profile.reads.archives_min.to_string(),
    },
    Field {
        name: "lzma",
        wanted: "true or false",
        set: |profile, text| put(&mut profile.reads.lzma, text.parse().ok()),
        show: |profile| profile.reads.lzma.to_string(),
    },
    Field {
        name: "index_format_max",
        wanted: "5, 6 or 7",
        set: |profile, text| {
            let format = text.parse().ok().filter(|format| (5..=7).contains(format));
            put(&mut profile.reads.index_format_max, format)
        },
        show: |profile| profile.reads.index_format_max.to_string(),
    },
    Field {
        name: "index_flags",
        wanted: "the sum of 1 (names), 2 (digests), 4 (lengths) and 8 (uncompressed checksums)",
        set: |profile, text| {
            let flags = text.parse().ok().filter(|&flags: &u8| flags < 16);
            put(&mut profile.reads.index_flags, flags)
        },
        show: |profile| profile.reads.index_flags.to_string(),
    },
];

const HANDSHAKES: &[(&str, Handshake)] = &[
    ("fixed", Handshake::Fixed { key: false }),
    ("fixed-key", Handshake::Fixed { key: true }),
    ("prefixed", Handshake::Prefixed(Language::No)),
    ("prefixed-language", Handshake::Prefixed(Language::Yes)),
    ("prefixed-either", Handshake::Prefixed(Language::Either)),
];
const FRAMES: &[(&str, Frame)] = &[("4", Frame::Four), ("6", Frame::Six), ("10", Frame::Ten)];
const MARKS: &[(&str, Mark)] = &[
    ("never", Mark::Never),
    ("type-bit", Mark::TypeBit),
    ("group-bit", Mark::GroupBit),
    ("by-first-op-6", Mark::ByFirstOp6),
];
const BAD_TOKENS: &[(&str, Status)] = &[("6", Status::OutOfDate), ("48", Status::SessionExpired)];

/// The opcodes that mean something in some client.
const OPCODES: [u8; 10] = [0, 1, 2, 3, 4, 6, 7, 17, 32, 33];

impl Profile {
    /// Sets a field. Whether fields go together is for [`Profile::check`].
    ///
    /// # Errors
    /// There is no such field, or it has no such value: the text says which values it has.
    pub fn set(&mut self, field: &str, value: &str) -> Result<(), String> {
        let Some(known) = FIELDS.iter().find(|known| known.name == field) else {
            let names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
            return Err(format!(
                "'{field}' is no field of a profile; there are {}",
                names.join(", ")
            ));
        };
        if (known.set)(self, value.trim()) {
            return Ok(());
        }
        Err(format!("{field} = '{value}': {} is wanted", known.wanted))
    }

    /// Each field with its value, as [`Profile::set`] takes it.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        FIELDS.iter().map(|field| (field.name, (field.show)(self)))
    }
}

/// True if there is a value to put.
fn put<T>(place: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => *place = value,
        None => return false,
    }
    true
}

fn by_name<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

fn name_of<T: PartialEq>(names: &[(&str, T)], value: &T) -> String {
    names
        .iter()
        .find(|(_, other)| other == value)
        .map_or_else(String::new, |(name, _)| (*name).into())
}

fn ints(text: &str) -> Option<Vec<i32>> {
    if let Ok(count) = text.parse::<usize>() {
        return (count <= INTS_MAX).then(|| vec![1; count]);
    }
    let each = text.trim_end_matches(',').split(',').map(|int| int.trim().parse().ok());
    each.collect::<Option<Vec<_>>>().filter(|ints| ints.len() <= INTS_MAX)
}

fn show_ints(profile: &Profile) -> String {
    let ints = &profile.ints;
    if ints.iter().all(|&int| int == 1) {
        return ints.len().to_string();
    }
    // One alone would be a count.
    let end = if ints.len() == 1 { "," } else { "" };
    ints.iter().map(i32::to_string).collect::<Vec<_>>().join(",") + end
}

fn opcodes(text: &str) -> Option<Opcodes> {
    let each = text.split(',').map(|opcode| opcode.trim().parse().ok());
    let all = each.collect::<Option<Vec<u8>>>()?;
    all.iter().all(|opcode| OPCODES.contains(opcode)).then(|| Opcodes::of(&all))
}

fn show_opcodes(profile: &Profile) -> String {
    let has = OPCODES.iter().filter(|&&opcode| profile.opcodes.has(opcode));
    has.map(u8::to_string).collect::<Vec<_>>().join(",")
}

fn in_flight(text: &str) -> Option<[u16; 2]> {
    let (urgent, prefetch) = text.split_once(',')?;
    let number = |text: &str| text.trim().parse().ok().filter(|&count: &u16| count > 0);
    Some([number(urgent)?, number(prefetch)?])
}
