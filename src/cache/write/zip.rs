//! Writes a zip from front to back: sizes stand behind the data and in the central directory.
//!
//! Without zip64, so that every program reads it: an entry, and the whole, stay below 4 GiB.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crc32fast::Hasher;
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Sizes follow the data (general purpose bit 3).
const STREAMED: u16 = 8;
const DEFLATE: u16 = 8;
/// The version of the format that a reader must know: 2.0, for deflate and directories.
const VERSION: u16 = 20;

/// A zip that is being written.
#[derive(Debug)]
pub(super) struct ZipWriter {
    stage: Option<Stage>,
    /// The entry that is being written.
    entry: Entry,
    directory: Vec<u8>,
    count: u16,
}

#[derive(Debug)]
enum Stage {
    Between(Counted),
    Inside(DeflateEncoder<Counted>),
}

/// What is known of an entry while it is written.
#[derive(Debug, Default)]
struct Entry {
    name: String,
    at: u64,
    data_at: u64,
    len: u64,
    crc: Hasher,
}

impl ZipWriter {
    pub(super) fn new(file: File) -> Self {
        let file = Counted { file: BufWriter::with_capacity(1 << 20, file), len: 0 };
        Self {
            stage: Some(Stage::Between(file)),
            entry: Entry::default(),
            directory: Vec::new(),
            count: 0,
        }
    }

    /// Ends the entry before, and begins another; a directory's name ends in a slash.
    pub(super) fn begin(&mut self, name: &str) -> io::Result<()> {
        let mut file = self.end_entry()?;
        let at = file.len;
        let mut header = b"PK\x03\x04".to_vec();
        header.extend(fields(name, 0, 0, 0)?);
        header.extend(name.as_bytes());
        file.write_all(&header)?;
        let data_at = file.len;
        self.entry = Entry { name: name.to_owned(), at, data_at, ..Entry::default() };
        self.stage = Some(Stage::Inside(DeflateEncoder::new(file, Compression::fast())));
        Ok(())
    }

    /// Ends the entry, and the zip.
    pub(super) fn finish(mut self) -> io::Result<File> {
        let mut file = self.end_entry()?;
        let start = below_4_gib(file.len)?;
        let len = below_4_gib(self.directory.len() as u64)?;
        file.write_all(&self.directory)?;
        file.write_all(b"PK\x05\x06\0\0\0\0")?;
        file.write_all(&[self.count.to_le_bytes(), self.count.to_le_bytes()].concat())?;
        file.write_all(&[&len.to_le_bytes()[..], &start.to_le_bytes(), &[0; 2]].concat())?;
        file.file.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// Ends the entry, if one was begun.
    fn end_entry(&mut self) -> io::Result<Counted> {
        let encoder = match self.stage.take() {
            Some(Stage::Inside(encoder)) => encoder,
            Some(Stage::Between(file)) => return Ok(file),
            None => return Err(io::Error::other("the zip failed before")),
        };
        let mut file = encoder.finish()?;
        let entry = std::mem::take(&mut self.entry);
        let packed = below_4_gib(file.len.saturating_sub(entry.data_at))?;
        let (len, crc) = (below_4_gib(entry.len)?, entry.crc.finalize());
        let sizes = [crc, packed, len].map(u32::to_le_bytes).concat();
        file.write_all(b"PK\x07\x08")?;
        file.write_all(&sizes)?;
        self.directory.extend(b"PK\x01\x02");
        self.directory.extend(VERSION.to_le_bytes());
        self.directory.extend(fields(&entry.name, crc, packed, len)?);
        // No comment, the first volume, no attributes.
        self.directory.extend([0; 10]);
        self.directory.extend(below_4_gib(entry.at)?.to_le_bytes());
        self.directory.extend(entry.name.as_bytes());
        self.count = self.count.saturating_add(1);
        Ok(file)
    }
}

impl Write for ZipWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(Stage::Inside(encoder)) = &mut self.stage else {
            return Err(io::Error::other("no entry of the zip was begun"));
        };
        let len = encoder.write(bytes)?;
        self.entry.crc.update(bytes.get(..len).unwrap_or_default());
        self.entry.len = self.entry.len.saturating_add(len as u64);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a local header and the central directory have in common, from the version on.
fn fields(name: &str, crc: u32, packed: u32, len: u32) -> io::Result<Vec<u8>> {
    // 1980-01-01, the first day there is: the same cache makes the same zip.
    let (time, date) = (0_u16, 0x21_u16);
    let name_len = u16::try_from(name.len()).map_err(io::Error::other)?;
    let mut out = Vec::new();
    out.extend([VERSION, STREAMED, DEFLATE, time, date].map(u16::to_le_bytes).concat());
    out.extend([crc, packed, len].map(u32::to_le_bytes).concat());
    out.extend([name_len, 0].map(u16::to_le_bytes).concat());
    Ok(out)
}

fn below_4_gib(len: u64) -> io::Result<u32> {
    let too_large = "a zip holds less than 4 GiB; write a tar.gz";
    u32::try_from(len).ok().filter(|&len| len < u32::MAX).ok_or_else(|| io::Error::other(too_large))
}

/// A file, and how much was written to it.
#[derive(Debug)]
struct Counted {
    file: BufWriter<File>,
    len: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.len = self.len.saturating_add(len as u64);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
