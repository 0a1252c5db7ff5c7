//! The container: one group's bytes as they are stored, checksummed and sent.
//!
//! A compression byte, the compressed length, the uncompressed length unless the compression is
//! none, the data (docs/protocol.md, "Words"). Only the first five bytes mean something in every
//! group: what follows them is encrypted in the map groups of real caches, the uncompressed
//! length included, so a [`ContainerHeader`] does not know it. Archive indexes are never
//! encrypted; [`decompress`] is for them only. Their lengths may be false: no buffer grows beyond
//! the unpacked data, and none beyond the caller's bound.

use std::io::Read;

/// What is plain in every container: compression byte and compressed length. The whole header
/// of uncompressed ones.
const HEADER_LEN_PLAIN: usize = 5;

/// The header of compressed containers, whose uncompressed length may be encrypted.
const HEADER_LEN_COMPRESSED: usize = 9;

/// bzip2 streams are stored without their first four bytes. The client puts `BZh1` there; the
/// digit only bounds the block size, so 9 reads whatever 1 reads, and also what packers that
/// cut the header of a stream of level 9 have written.
const BZIP2_HEADER: [u8; 4] = *b"BZh9";

/// LZMA streams keep the properties byte and the dictionary size of their header, and nothing
/// else of it.
const LZMA_HEADER_LEN: usize = 5;

/// What LZMA calls a window smaller than this is rounded up to it by every decoder.
const LZMA_DICT_LEN_MIN: u32 = 4096;

/// The window that [`compress`] packs with: archive groups are small.
const LZMA_PACK_DICT_LEN: u32 = 1 << 16;

/// How a container's data is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// 0: the data as it is.
    None,
    /// 1: bzip2 without its first four bytes.
    Bzip2,
    /// 2: gzip.
    Gzip,
    /// 3: LZMA without the length in its header. Younger than build 550.
    Lzma,
}

impl Compression {
    /// The compression that a container's first byte names.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Bzip2),
            2 => Some(Self::Gzip),
            3 => Some(Self::Lzma),
            _ => None,
        }
    }

    /// The first byte of such a container.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Bzip2 => 1,
            Self::Gzip => 2,
            Self::Lzma => 3,
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Lzma => "LZMA",
        })
    }
}

/// What is wrong with a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// The bytes end before the container does. To a reader of a stream: go on reading.
    #[error("the container needs {needed} bytes, {found} are there")]
    Truncated {
        /// How many bytes are needed, counted from the container's start.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// The first byte is none of the compressions 0 to 3.
    #[error("compression {0} is unknown (0 to 3 exist)")]
    UnknownCompression(u8),
    /// A length has its sign bit set.
    #[error("the {field} length is negative ({value})")]
    NegativeLength {
        /// "compressed" or "uncompressed".
        field: &'static str,
        /// The length as it stands there.
        value: i32,
    },
    /// The container claims to unpack to more than the caller allows.
    #[error("the container claims to unpack to {claimed} bytes, at most {len_max} are accepted")]
    TooLong {
        /// The claimed uncompressed length.
        claimed: usize,
        /// The bound.
        len_max: usize,
    },
    /// The data unpacks to another length than the header claims.
    #[error("the container claims to unpack to {claimed} bytes, {} than come out",
        if *longer { "fewer" } else { "more" })]
    WrongLength {
        /// The claimed uncompressed length.
        claimed: usize,
        /// The unpacked bytes, at most `claimed`.
        found: usize,
        /// Whether there was more than `claimed`.
        longer: bool,
    },
    /// The decompressor refuses the data.
    #[error("the {compression} data is damaged: {cause}")]
    Damaged {
        /// Which decompressor.
        compression: Compression,
        /// Its words.
        cause: String,
    },
}

/// The first five bytes of a container: all that can be read of one that may be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerHeader {
    /// How the data is packed.
    pub compression: Compression,
    /// The length of the data behind the header; at most `i32::MAX`.
    pub compressed_len: u32,
}

impl ContainerHeader {
    /// Reads the header at the start of `bytes`, which may end behind it.
    ///
    /// # Errors
    /// [`ContainerError::Truncated`] says how many bytes it takes to go on; the others mean
    /// that this is no container.
    pub fn parse(bytes: &[u8]) -> Result<Self, ContainerError> {
        let truncated = ContainerError::Truncated { needed: HEADER_LEN_PLAIN, found: bytes.len() };
        let (&first, rest) = bytes.split_first().ok_or(truncated.clone())?;
        let compression =
            Compression::from_byte(first).ok_or(ContainerError::UnknownCompression(first))?;
        let field = rest.first_chunk().ok_or(truncated)?;
        Ok(Self { compression, compressed_len: length("compressed", *field)? })
    }

    /// The header's own length, the uncompressed length included: 5 or 9.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        match self.compression {
            Compression::None => HEADER_LEN_PLAIN,
            _ => HEADER_LEN_COMPRESSED,
        }
    }

    /// The length of the whole container: exactly what goes onto the wire.
    #[must_use]
    pub const fn container_len(&self) -> usize {
        // Both fit by far: compressed_len is at most i32::MAX.
        (self.compressed_len as usize).saturating_add(self.header_len())
    }
}

fn length(field: &'static str, bytes: [u8; 4]) -> Result<u32, ContainerError> {
    let value = i32::from_be_bytes(bytes);
    u32::try_from(value).map_err(|_| ContainerError::NegativeLength { field, value })
}

/// Unpacks the container at the start of `container`, which must not be encrypted. What follows
/// it (a version trailer) is not looked at.
///
/// # Errors
/// When this is no whole container, when its data is damaged, when it claims more than
/// `len_max` bytes, or when the claim is not met exactly. Memory: the bytes that really come
/// out, `len_max` at most, and twice that while the buffer grows.
pub fn decompress(container: &[u8], len_max: usize) -> Result<Vec<u8>, ContainerError> {
    let header = ContainerHeader::parse(container)?;
    let needed = header.container_len();
    let truncated = ContainerError::Truncated { needed, found: container.len() };
    let (fields, rest) =
        container.split_at_checked(header.header_len()).ok_or(truncated.clone())?;
    let data = rest.get(..header.compressed_len as usize).ok_or(truncated)?;
    let uncompressed_len = match (header.compression, fields.last_chunk()) {
        (Compression::None, _) | (_, None) => header.compressed_len,
        (_, Some(field)) => length("uncompressed", *field)?,
    };
    let claimed = uncompressed_len as usize;
    if claimed > len_max {
        return Err(ContainerError::TooLong { claimed, len_max });
    }
    let unpacked = match header.compression {
        Compression::None => Ok(Ok(data.to_vec())),
        Compression::Bzip2 => {
            unpack(bzip2::read::BzDecoder::new(BZIP2_HEADER.chain(data)), claimed)
        }
        Compression::Gzip => unpack(flate2::bufread::GzDecoder::new(data), claimed),
        Compression::Lzma => unpack_lzma(data, uncompressed_len),
    };
    unpacked.map_err(|error| ContainerError::Damaged {
        compression: header.compression,
        cause: error.to_string(),
    })?
}

/// Takes `claimed` bytes out of `reader` and sees whether it ends there.
fn unpack(
    mut reader: impl Read,
    claimed: usize,
) -> std::io::Result<Result<Vec<u8>, ContainerError>> {
    let mut payload = Vec::new();
    reader.by_ref().take(claimed as u64).read_to_end(&mut payload)?;
    // Reading on past the last byte also makes the decompressor check its own checksum.
    let longer = reader.read(&mut [0])? != 0;
    if longer || payload.len() != claimed {
        let found = payload.len();
        return Ok(Err(ContainerError::WrongLength { claimed, found, longer }));
    }
    Ok(Ok(payload))
}

fn unpack_lzma(data: &[u8], claimed: u32) -> std::io::Result<Result<Vec<u8>, ContainerError>> {
    let Some(([properties, dict @ ..], stream)) = data.split_first_chunk::<LZMA_HEADER_LEN>()
    else {
        return Err(std::io::Error::other("the stream is shorter than its header"));
    };
    // The stream's own dictionary size is a claim of up to 4 GB. No distance reaches behind the
    // payload's start, so a window as long as the payload reads every sound stream.
    let dict_len = u32::from_le_bytes(*dict).min(claimed).max(LZMA_DICT_LEN_MIN);
    let mut reader = lzma_rust2::LzmaReader::new_with_props(
        stream,
        u64::from(claimed),
        *properties,
        dict_len,
        None,
    )?;
    // Without this, a stream that holds more than is claimed would go unnoticed.
    reader.set_relaxed_end_condition(false);
    unpack(reader, claimed as usize)
}

/// Packs `payload` into a container, as tools that make caches do.
///
/// # Errors
/// When the payload, or what it packs to, is longer than a container can say.
pub fn compress(compression: Compression, payload: &[u8]) -> Result<Vec<u8>, ContainerError> {
    let data = pack(compression, payload)
        .map_err(|error| ContainerError::Damaged { compression, cause: error.to_string() })?;
    let mut container = vec![compression.byte()];
    container.extend_from_slice(&length_field(data.len())?);
    if compression != Compression::None {
        container.extend_from_slice(&length_field(payload.len())?);
    }
    container.extend_from_slice(&data);
    Ok(container)
}

fn length_field(len: usize) -> Result<[u8; 4], ContainerError> {
    let too_long = ContainerError::TooLong { claimed: len, len_max: i32::MAX as usize };
    i32::try_from(len).map(i32::to_be_bytes).map_err(|_| too_long)
}

fn pack(compression: Compression, payload: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write;
    match compression {
        Compression::None => Ok(payload.to_vec()),
        Compression::Bzip2 => {
            // Level 1, the only one that the client's decoder has room for.
            let level = bzip2::Compression::fast();
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
            encoder.write_all(payload)?;
            let stream = encoder.finish()?;
            Ok(stream.get(BZIP2_HEADER.len()..).unwrap_or_default().to_vec())
        }
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(payload)?;
            encoder.finish()
        }
        Compression::Lzma => {
            let mut options = lzma_rust2::LzmaOptions::with_preset(6);
            options.dict_size = LZMA_PACK_DICT_LEN;
            let mut header = vec![options.get_props()];
            header.extend_from_slice(&options.dict_size.to_le_bytes());
            let mut writer = lzma_rust2::LzmaWriter::new_no_header(header, &options, false)?;
            writer.write_all(payload)?;
            writer.finish()
        }
    }
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
