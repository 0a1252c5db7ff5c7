//! The tar, plain or in gzip: one header of 512 bytes an entry, then its content.
//!
//! A tar ends with a block of zeros. One that ends without was cut, even if it was cut at the
//! edge of an entry, where nothing else would show it. Read by hand because of that, and because
//! the long names of a stranger's tar may have no more memory than [`NAME_LEN_MAX`]. POSIX
//! pax (IEEE 1003.1-2017, "ustar Interchange Format" and "pax Header Block") and GNU's long
//! names are known.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::fault::{fault, refused_by};
use super::name::{NAME_LEN_MAX, Part};
use super::{BUFFER_BYTES, Listing, Member, PackedFault, Packing, zip};
use crate::cache::StoreError;
use crate::cache::file::fill;

/// A tar is made of blocks.
const BLOCK: usize = 512;
/// The same, for places.
pub(super) const BLOCK_U64: u64 = 512;
/// The longest pax header that is read; it holds a name, and times and owners beside.
const PAX_LEN_MAX: u64 = 64 << 10;

/// The first bytes of what a gzip file holds.
pub(super) fn head_of_gzip(file: File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; BLOCK];
    let len = fill(&mut MultiGzDecoder::new(BufReader::new(file)), &mut head)?;
    head.truncate(len);
    Ok(head)
}

/// Whether `head` is a tar's first block.
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|block| is_zero(block) || Header::parse(block).is_some())
}

/// Lists what is in a tar.
pub(super) fn list<'a>(
    path: &Path,
    packing: Packing,
    mut listing: Listing<'a>,
    bytes_max: u64,
) -> Result<Listing<'a>, StoreError> {
    let mut walk = Walk::open(path, packing, bytes_max)?;
    while let Some(entry) = walk.next(path)? {
        let Some(part) = listing.part(&entry.name, entry.at)? else { continue };
        if !entry.is_file {
            return Err(listing.refuse(&entry.name, entry.at, PackedFault::NotAFile(entry.kind)));
        }
        if let Part::Index(archive) = part {
            let outcome = listing.index(archive, &mut walk.content());
            outcome.map_err(|error| refused_by(path, Some((&entry.name, entry.at)), error))?;
        }
        let (at, len_bytes) = (entry.at, entry.len_bytes);
        listing.members.push(Member { part, at, len_bytes, zip: zip::Body::default() });
    }
    walk.drain().map_err(|error| refused_by(path, None, error))?;
    Ok(listing)
}

/// An entry, as its header describes it.
pub(super) struct Entry {
    pub(super) name: String,
    /// Where its header begins in the unpacked tar.
    pub(super) at: u64,
    pub(super) len_bytes: u64,
    is_file: bool,
    kind: u8,
}

/// A walk through a tar, entry by entry.
pub(super) struct Walk {
    stream: Stream,
    /// Bytes of the unpacked tar that were passed.
    at: u64,
    /// Bytes of the entry's content that were not read.
    left: u64,
    /// Bytes behind the content, up to the next block.
    padding: u64,
    bytes_max: u64,
}

/// The unpacked tar.
enum Stream {
    Plain(BufReader<File>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
}

impl Walk {
    pub(super) fn open(path: &Path, packing: Packing, bytes_max: u64) -> Result<Self, StoreError> {
        let file =
            File::open(path).map_err(|source| StoreError::Io { path: path.into(), source })?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let stream = match packing {
            Packing::TarGz => {
                let unpacked = MultiGzDecoder::new(file);
                Stream::Gzip(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)))
            }
            Packing::Tar | Packing::Zip => Stream::Plain(file),
        };
        Ok(Self { stream, at: 0, left: 0, padding: 0, bytes_max })
    }

    /// The next entry, its name found; `None` at the tar's end.
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<Entry>, StoreError> {
        let start = self.at.saturating_add(self.left).saturating_add(self.padding);
        self.entry().map_err(|error| refused_by(path, Some(("the entry", start)), error))
    }

    fn entry(&mut self) -> io::Result<Option<Entry>> {
        self.skip_content()?;
        let at = self.at;
        let (mut long_name, mut pax) = (None, Pax::default());
        loop {
            let mut block = [0; BLOCK];
            self.read_exact(&mut block)?;
            if is_zero(&block) {
                return Ok(None);
            }
            let header = Header::parse(&block).ok_or_else(|| {
                fault(PackedFault::Damaged("no tar header where one is due".into()))
            })?;
            self.begin(header.len_bytes);
            match header.kind {
                b'L' => {
                    let name = self.small(NAME_LEN_MAX as u64)?;
                    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
                    let name = name.get(..end).unwrap_or_default();
                    long_name = Some(String::from_utf8_lossy(name).into_owned());
                }
                b'x' => pax = Pax::parse(&self.small(PAX_LEN_MAX)?),
                // Names of links, and what holds for the whole tar: not needed.
                b'K' | b'g' => self.skip_content()?,
                kind => {
                    let len_bytes = pax.len_bytes.unwrap_or(header.len_bytes);
                    self.begin(len_bytes);
                    let mut name = pax.name.or(long_name).unwrap_or(header.name);
                    if kind == b'5' && !name.ends_with('/') {
                        name.push('/');
                    }
                    let is_file = matches!(kind, b'0' | 0 | b'7');
                    return Ok(Some(Entry { name, at, len_bytes, is_file, kind }));
                }
            }
        }
    }

    /// The content of the entry, from where it has been read to.
    pub(super) fn content(&mut self) -> impl Read {
        Content { walk: self }
    }

    /// Reads on to the end of the file: gzip has its checksum there.
    fn drain(&mut self) -> io::Result<()> {
        let mut buf = [0; BLOCK * 8];
        while self.read(&mut buf)? > 0 {}
        Ok(())
    }

    fn begin(&mut self, len_bytes: u64) {
        self.left = len_bytes;
        self.padding = len_bytes.wrapping_neg() % BLOCK_U64;
    }

    /// The whole content, if it is no longer than this.
    fn small(&mut self, len_max: u64) -> io::Result<Vec<u8>> {
        if self.left > len_max {
            return Err(fault(PackedFault::NameTooLong { len: self.left, len_max }));
        }
        let mut bytes = vec![0; usize::try_from(self.left).unwrap_or(0)];
        self.read_exact(&mut bytes)?;
        self.left = 0;
        self.skip_content()?;
        Ok(bytes)
    }

    fn skip_content(&mut self) -> io::Result<()> {
        let skipped = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        if let Stream::Plain(file) = &mut self.stream {
            // A seek does not show whether the bytes exist: the last byte is read for that.
            let Some(before_last) = skipped.checked_sub(1) else { return Ok(()) };
            file.seek_relative(i64::try_from(before_last).unwrap_or(i64::MAX))?;
            self.at = self.at.saturating_add(before_last);
            return self.read_exact(&mut [0]);
        }
        let mut left = skipped;
        let mut buf = [0; BLOCK * 8];
        while left > 0 {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            self.read_exact(buf.get_mut(..here).unwrap_or_default())?;
            left = left.saturating_sub(here as u64);
        }
        Ok(())
    }
}

impl Read for Walk {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = match &mut self.stream {
            Stream::Plain(file) => file.read(out)?,
            Stream::Gzip(stream) => stream.read(out)?,
        };
        self.at = self.at.saturating_add(len as u64);
        if self.at > self.bytes_max {
            return Err(fault(PackedFault::Bomb { bytes_max: self.bytes_max }));
        }
        Ok(len)
    }
}

/// The content of an entry.
struct Content<'a> {
    walk: &'a mut Walk,
}

impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.walk.left).unwrap_or(usize::MAX).min(out.len());
        let Some(out) = out.get_mut(..room).filter(|out| !out.is_empty()) else { return Ok(0) };
        let len = self.walk.read(out)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.walk.left = self.walk.left.saturating_sub(len as u64);
        Ok(len)
    }
}

/// A header block.
struct Header {
    name: String,
    len_bytes: u64,
    kind: u8,
}

impl Header {
    /// Takes a block apart; `None` if its checksum is not a header's.
    fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        // The sum counts its own eight bytes as spaces.
        let (sum_at, field) = (148, block.get(148..156)?);
        let sum = block.iter().enumerate().fold(0, |sum: u64, (at, &byte)| {
            let is_sum = (sum_at..156).contains(&at);
            sum.saturating_add(u64::from(if is_sum { b' ' } else { byte }))
        });
        if number(field) != Some(sum) {
            return None;
        }
        let mut name = text(block.get(..100)?);
        let prefix = text(block.get(345..500)?);
        // GNU's format has other fields there.
        if block.get(257..263)? == b"ustar\0" && !prefix.is_empty() {
            name = format!("{prefix}/{name}");
        }
        Some(Self { name, len_bytes: number(block.get(124..136)?)?, kind: *block.get(156)? })
    }
}

/// What a pax header says that matters here.
#[derive(Default)]
struct Pax {
    name: Option<String>,
    len_bytes: Option<u64>,
}

impl Pax {
    /// Records of `LENGTH KEY=VALUE\n`, the length that of the whole record.
    fn parse(bytes: &[u8]) -> Self {
        let mut pax = Self::default();
        let mut rest = bytes;
        while let Some(space) = rest.iter().position(|&byte| byte == b' ') {
            let digits = rest.get(..space).and_then(|digits| std::str::from_utf8(digits).ok());
            let len = digits.and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0);
            let Some((record, behind)) = rest.split_at_checked(len) else { break };
            let Some(record) = record.get(space.saturating_add(1)..) else { break };
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            if let Some(name) = record.strip_prefix(b"path=") {
                pax.name = Some(String::from_utf8_lossy(name).into_owned());
            } else if let Some(size) = record.strip_prefix(b"size=") {
                pax.len_bytes = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
            }
            rest = behind;
        }
        pax
    }
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

/// An octal number, or, where the first bit is set, a binary one.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((&first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let high = u64::from(first & 0x7F);
        return rest
            .iter()
            .try_fold(high, |number, &byte| number.checked_mul(256)?.checked_add(u64::from(byte)));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}
