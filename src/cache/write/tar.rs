//! Writes a tar.gz: the flat files of a store, as the OpenRS2 archive has them.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

const BLOCK: usize = 512;

/// A tar.gz that is being written.
#[derive(Debug)]
pub(super) struct TarWriter {
    gzip: GzEncoder<BufWriter<File>>,
}

impl TarWriter {
    pub(super) fn new(file: File) -> Self {
        let file = BufWriter::with_capacity(1 << 20, file);
        Self { gzip: GzEncoder::new(file, Compression::fast()) }
    }

    pub(super) fn put(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.gzip.write_all(&header(name, content.len()))?;
        self.gzip.write_all(content)?;
        let padding = content.len().next_multiple_of(BLOCK).saturating_sub(content.len());
        self.gzip.write_all([0; BLOCK].get(..padding).unwrap_or_default())
    }

    /// Writes the mark at which a tar ends.
    pub(super) fn finish(mut self) -> io::Result<File> {
        self.gzip.write_all(&[0; BLOCK])?;
        self.gzip.write_all(&[0; BLOCK])?;
        self.gzip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// A ustar header of a plain file that all may read. Names of a store are far below 100 bytes, and
/// its groups below 8 GiB.
fn header(name: &str, len: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, 0, name);
    put(&mut block, 100, "0000644\0");
    put(&mut block, 108, "0000000\0");
    put(&mut block, 116, "0000000\0");
    put(&mut block, 124, &format!("{len:011o}\0"));
    put(&mut block, 136, "00000000000\0");
    // The sum counts its own field as spaces.
    put(&mut block, 148, "        ");
    put(&mut block, 156, "0");
    put(&mut block, 257, "ustar\0");
    put(&mut block, 263, "00");
    let sum = block.iter().fold(0_u32, |sum, &byte| sum.saturating_add(u32::from(byte)));
    put(&mut block, 148, &format!("{sum:06o}\0"));
    block
}

fn put(block: &mut [u8; BLOCK], at: usize, text: &str) {
    for (place, byte) in block.iter_mut().skip(at).zip(text.bytes()) {
        *place = byte;
    }
}
