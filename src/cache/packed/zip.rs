//! The zip: listed by its central directory, read entry by entry.
//!
//! Streamed zips, as the OpenRS2 archive writes them, have the sizes of their entries behind the
//! data and in the central directory only; so only the central directory is used. The layout is
//! that of PKWARE's APPNOTE 6.3.10: sections 4.3.7 (local header), 4.3.12 (central directory),
//! 4.3.14 to 4.3.16 (its end, and zip64), 4.5.3 (zip64's sizes).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

use super::fault::{fault, refused_by};
use super::name::{NAME_LEN_MAX, Part};
use super::{BUFFER_BYTES, Listing, Member, PackedFault};
use crate::cache::StoreError;

const LOCAL: u32 = 0x0403_4B50;
const CENTRAL: u32 = 0x0201_4B50;
const END: u32 = 0x0605_4B50;
const END_64: u32 = 0x0606_4B50;
const LOCATOR_64: u32 = 0x0706_4B50;

const LOCAL_LEN: usize = 30;
const LOCAL_LEN_U64: u64 = 30;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const END_64_LEN: usize = 56;
const LOCATOR_LEN: usize = 20;
const LOCATOR_LEN_U64: u64 = 20;
/// The comment behind the end of the central directory.
const COMMENT_LEN_MAX: u64 = 65_535;

/// General purpose bit 0.
const ENCRYPTED: u16 = 1;
const STORED: u16 = 0;
const DEFLATE: u16 = 8;

/// How an entry is packed. Of a tar's entry, all zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    packed_len: u64,
    crc: u32,
    is_deflated: bool,
}

/// Lists what is in a zip.
pub(super) fn list<'a>(
    file: File,
    mut listing: Listing<'a>,
    bytes_max: u64,
) -> Result<Listing<'a>, StoreError> {
    let path = listing.path;
    let whole = |error| refused_by(path, None, error);
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let directory = Directory::find(&mut file).map_err(whole)?;
    file.seek(SeekFrom::Start(directory.start)).map_err(whole)?;
    let mut named = Vec::new();
    let mut unpacked: u64 = 0;
    for _ in 0..directory.count {
        let entry = Central::read(&mut file).map_err(whole)?;
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let Some(part) = listing.part(&name, entry.at)? else { continue };
        let at = entry.at;
        unpacked = unpacked.saturating_add(entry.len_bytes);
        if unpacked > bytes_max {
            return Err(listing.refuse(&name, at, PackedFault::Bomb { bytes_max }));
        }
        let member =
            entry.member(part, &directory).map_err(|fault| listing.refuse(&name, at, fault))?;
        if let Part::Index(archive) = part {
            named.push((member, archive, name));
        }
        listing.members.push(member);
    }
    overlaps(&mut listing)?;
    let mut inflate = Inflate::default();
    named.sort_unstable_by_key(|(member, ..)| member.at);
    for (member, archive, name) in named {
        let outcome = content(&mut file, member, &mut inflate)
            .and_then(|mut content| listing.index(archive, &mut content));
        outcome.map_err(|error| refused_by(path, Some((&name, member.at)), error))?;
    }
    Ok(listing)
}

/// Refuses entries that share bytes: a small file could claim any amount with them.
fn overlaps(listing: &mut Listing<'_>) -> Result<(), StoreError> {
    listing.twice()?;
    listing.members.sort_unstable_by_key(|member| member.at);
    for pair in listing.members.windows(2) {
        if let [first, second] = pair {
            let end = first.at.saturating_add(LOCAL_LEN_U64).saturating_add(first.zip.packed_len);
            if second.at < end {
                let name = second.part.name(listing.dir.as_deref());
                let fault = PackedFault::Overlaps { other: first.at };
                return Err(listing.refuse(&name, second.at, fault));
            }
        }
    }
    Ok(())
}

/// Where the central directory is.
struct Directory {
    start: u64,
    end: u64,
    count: u64,
}

impl Directory {
    /// Finds the directory by what ends the file.
    fn find(file: &mut BufReader<File>) -> io::Result<Self> {
        let file_len = file.seek(SeekFrom::End(0))?;
        let tail_len = file_len.min(COMMENT_LEN_MAX.saturating_add(END_LEN as u64));
        let tail_start = file_len.saturating_sub(tail_len);
        file.seek(SeekFrom::Start(tail_start))?;
        let mut tail = Vec::new();
        file.by_ref().take(tail_len).read_to_end(&mut tail)?;
        // From the back: a comment may hold anything, but ends with the file.
        let is_end = |bytes: &[u8]| {
            let behind = bytes.len().checked_sub(END_LEN);
            u32_at(bytes, 0) == END && behind == Some(usize::from(u16_at(bytes, 20)))
        };
        let place = (0..tail.len()).rev().find(|&at| tail.get(at..).is_some_and(is_end));
        let place = place.ok_or_else(|| fault(PackedFault::NoDirectory))?;
        let record = tail.get(place..).unwrap_or_default();
        let end = tail_start.saturating_add(place as u64);
        let (disk, disk_of_directory) = (u16_at(record, 4), u16_at(record, 6));
        let mut directory = Self {
            start: u64::from(u32_at(record, 16)),
            end,
            count: u64::from(u16_at(record, 10)),
        };
        let mut len = u64::from(u32_at(record, 12));
        let wants_64 = directory.count == 0xFFFF
            || len == u64::from(u32::MAX)
            || directory.start == u64::from(u32::MAX);
        if wants_64 && let Some((start, size, count, at)) = Self::find_64(file, end)? {
            (directory, len) = (Self { start, end: at, count }, size);
        } else if disk != 0 || disk_of_directory != 0 {
            return Err(damaged("a zip of several volumes; join them"));
        }
        if directory.start.checked_add(len).is_none_or(|end| end > directory.end) {
            return Err(damaged("its central directory lies outside the file"));
        }
        Ok(directory)
    }

    /// What zip64 says instead, if it is there: start, length, entries, and where it says so.
    fn find_64(file: &mut BufReader<File>, end: u64) -> io::Result<Option<(u64, u64, u64, u64)>> {
        let Some(locator_at) = end.checked_sub(LOCATOR_LEN_U64) else { return Ok(None) };
        file.seek(SeekFrom::Start(locator_at))?;
        let mut locator = [0; LOCATOR_LEN];
        file.read_exact(&mut locator)?;
        if u32_at(&locator, 0) != LOCATOR_64 {
            return Ok(None);
        }
        let at = u64_at(&locator, 8);
        file.seek(SeekFrom::Start(at.min(locator_at)))?;
        let mut record = [0; END_64_LEN];
        file.read_exact(&mut record)?;
        if u32_at(&record, 0) != END_64 {
            return Err(damaged("the record of its zip64 directory is not where it should be"));
        }
        Ok(Some((u64_at(&record, 48), u64_at(&record, 40), u64_at(&record, 32), at)))
    }
}

/// An entry of the central directory.
struct Central {
    name: Vec<u8>,
    at: u64,
    len_bytes: u64,
    packed_len: u64,
    crc: u32,
    flags: u16,
    method: u16,
}

impl Central {
    fn read(file: &mut BufReader<File>) -> io::Result<Self> {
        let mut fixed = [0; CENTRAL_LEN];
        file.read_exact(&mut fixed)?;
        if u32_at(&fixed, 0) != CENTRAL {
            return Err(damaged("its central directory has fewer entries than it says"));
        }
        let name_len = u16_at(&fixed, 28);
        let mut name = vec![0; usize::from(name_len)];
        file.read_exact(&mut name)?;
        let mut extra = vec![0; usize::from(u16_at(&fixed, 30))];
        file.read_exact(&mut extra)?;
        file.seek_relative(i64::from(u16_at(&fixed, 32)))?;
        if name.len() > NAME_LEN_MAX {
            let (len, len_max) = (u64::from(name_len), NAME_LEN_MAX as u64);
            return Err(fault(PackedFault::NameTooLong { len, len_max }));
        }
        let mut entry = Self {
            name,
            at: u64::from(u32_at(&fixed, 42)),
            len_bytes: u64::from(u32_at(&fixed, 24)),
            packed_len: u64::from(u32_at(&fixed, 20)),
            crc: u32_at(&fixed, 16),
            flags: u16_at(&fixed, 8),
            method: u16_at(&fixed, 10),
        };
        entry.widen(&extra);
        Ok(entry)
    }

    /// Takes the fields that are too large for the entry from zip64's extra field, in the order
    /// in which it has them.
    fn widen(&mut self, extra: &[u8]) {
        let mut rest = extra;
        while rest.len() >= 4 {
            let (id, len) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
            let body = rest.get(4..).unwrap_or_default();
            let (body, behind) = body.split_at_checked(len).unwrap_or((body, &[]));
            if id == 1 {
                let mut values = body.chunks_exact(8).map(|value| u64_at(value, 0));
                for field in [&mut self.len_bytes, &mut self.packed_len, &mut self.at] {
                    if *field == u64::from(u32::MAX) {
                        *field = values.next().unwrap_or(*field);
                    }
                }
            }
            rest = behind;
        }
    }

    /// What of it is to be known, if it can be read.
    fn member(&self, part: Part, directory: &Directory) -> Result<Member, PackedFault> {
        let &Self { at, len_bytes, packed_len, crc, flags, method, .. } = self;
        if flags & ENCRYPTED != 0 {
            return Err(PackedFault::Encrypted);
        }
        if !matches!(method, STORED | DEFLATE) {
            return Err(PackedFault::Method(method));
        }
        let is_deflated = method == DEFLATE;
        if !is_deflated && packed_len != len_bytes {
            return Err(PackedFault::Damaged("stored, but its two lengths differ".into()));
        }
        let end = at.checked_add(LOCAL_LEN_U64).and_then(|start| start.checked_add(packed_len));
        if end.is_none_or(|end| end > directory.start) {
            return Err(PackedFault::Cut);
        }
        Ok(Member { part, at, len_bytes, zip: Body { packed_len, crc, is_deflated } })
    }
}

/// The content of an entry, from its first byte.
pub(super) fn content<'a>(
    file: &'a mut BufReader<File>,
    member: Member,
    inflate: &'a mut Inflate,
) -> io::Result<Content<'a>> {
    let here = file.stream_position()?;
    // Relative, so that what is in the buffer is used.
    let away = i64::try_from(i128::from(member.at).saturating_sub(i128::from(here)));
    file.seek_relative(away.unwrap_or(i64::MAX))?;
    let mut local = [0; LOCAL_LEN];
    file.read_exact(&mut local)?;
    if u32_at(&local, 0) != LOCAL {
        return Err(damaged("no entry begins where the central directory says"));
    }
    let behind = i64::from(u16_at(&local, 26)).saturating_add(i64::from(u16_at(&local, 28)));
    file.seek_relative(behind)?;
    inflate.state.reset(false);
    let Member { len_bytes, zip: Body { packed_len, crc, is_deflated }, .. } = member;
    Ok(Content {
        file,
        inflate: is_deflated.then_some(&mut inflate.state),
        packed_left: packed_len,
        left: len_bytes,
        crc: Hasher::new(),
        expected: crc,
    })
}

/// What it takes to inflate: used again for each entry, as it is large.
pub(super) struct Inflate {
    state: Decompress,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { state: Decompress::new(false) }
    }
}

/// The content of an entry. Reading it to its end checks its length and its CRC-32.
pub(super) struct Content<'a> {
    file: &'a mut BufReader<File>,
    inflate: Option<&'a mut Decompress>,
    /// Bytes of the zip that are still this entry's.
    packed_left: u64,
    /// Bytes that are still to come out.
    left: u64,
    crc: Hasher,
    expected: u32,
}

impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let Some(out) = out.get_mut(..room).filter(|out| !out.is_empty()) else {
            return if self.left == 0 { self.end() } else { Ok(0) };
        };
        let len = self.unpack(out)?;
        if len == 0 {
            let text = format!("{} bytes fewer come out than the zip says", self.left);
            return Err(damaged(&text));
        }
        self.crc.update(out.get(..len).unwrap_or_default());
        self.left = self.left.saturating_sub(len as u64);
        Ok(len)
    }
}

impl Content<'_> {
    /// Unpacks into `out`; 0 if the entry has ended.
    fn unpack(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let buffered = self.file.fill_buf()?;
            let here = usize::try_from(self.packed_left).unwrap_or(usize::MAX).min(buffered.len());
            let input = buffered.get(..here).unwrap_or_default();
            if input.is_empty() && self.packed_left > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (taken, given, ended) = match &mut self.inflate {
                None => {
                    let len = input.len().min(out.len());
                    if let (Some(to), Some(from)) = (out.get_mut(..len), input.get(..len)) {
                        to.copy_from_slice(from);
                    }
                    (len, len, len == 0)
                }
                Some(state) => {
                    let (in_before, out_before) = (state.total_in(), state.total_out());
                    let status = state
                        .decompress(input, out, FlushDecompress::None)
                        .map_err(|error| damaged(&format!("the deflate stream: {error}")))?;
                    let taken = state.total_in().saturating_sub(in_before);
                    let given = state.total_out().saturating_sub(out_before);
                    let stuck = input.is_empty() && given == 0;
                    (count(taken), count(given), status == Status::StreamEnd || stuck)
                }
            };
            self.file.consume(taken);
            self.packed_left = self.packed_left.saturating_sub(taken as u64);
            if given > 0 || ended {
                return Ok(given);
            }
        }
    }

    /// All bytes have come out: whether there are no more, and whether they are the right ones.
    fn end(&mut self) -> io::Result<usize> {
        if self.inflate.is_some() && self.unpack(&mut [0])? > 0 {
            return Err(damaged("more bytes come out than the zip says"));
        }
        let found = self.crc.clone().finalize();
        if found != self.expected {
            return Err(fault(PackedFault::Checksum { expected: self.expected, found }));
        }
        Ok(0)
    }
}

/// A count of bytes in memory.
fn count(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn damaged(text: &str) -> io::Error {
    fault(PackedFault::Damaged(text.to_owned()))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
