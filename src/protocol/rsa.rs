//! The key that signs master indexes: read from what operators have, used once a load.
//!
//! Textbook RSA without padding, as the clients undo it (docs/clients.md, "Master index"): they
//! raise what follows the entries to 65537 modulo their modulus, and must get 65 bytes. Most
//! operators hold the modulus and the private exponent only, so that nothing else is asked for.

mod pem;

use num_bigint::BigUint;

/// What the clients raise a signature to.
const PUBLIC_EXPONENT: u32 = 65_537;

/// What is signed is a 10 and 64 bytes, as a number: 516 bits. The modulus must be above it.
pub const MODULUS_BITS_MIN: usize = 517;

/// Jagex' own keys have 4,096 bits. Twice that keeps signing within a fraction of a second.
pub const MODULUS_BITS_MAX: usize = 8_192;

/// A key file is not longer: 8,192 bits as PEM have 6.4 KB.
pub const KEY_TEXT_LEN_MAX: usize = 64 << 10;

/// A private key.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaKey {
    modulus: BigUint,
    exponent: BigUint,
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaKeyError {
    /// One of the two numbers is not there.
    #[error("there is no {0}; a key is a modulus and a private exponent, each on its own line")]
    Missing(&'static str),
    /// One of them is there twice.
    #[error("line {line}: another {what}; a key is one modulus and one private exponent")]
    Twice {
        /// From 1.
        line: usize,
        /// Which.
        what: &'static str,
    },
    /// A line that is no number.
    #[error("line {line} has no number, decimal or hexadecimal")]
    NoNumber {
        /// From 1.
        line: usize,
    },
    /// A line whose name says nothing.
    #[error("line {line}: '{name}' is neither a modulus nor a private exponent")]
    UnknownName {
        /// From 1.
        line: usize,
        /// What stands before the number.
        name: String,
    },
    /// The signature would not fit.
    #[error(
        "a modulus of {bits} bits is too short: what is signed has 516 bits and must be below it, \
         so it needs {MODULUS_BITS_MIN} at least"
    )]
    TooShort {
        /// Its length.
        bits: usize,
    },
    /// Beyond the bound.
    #[error("a modulus of {bits} bits; at most {MODULUS_BITS_MAX} are taken")]
    TooLong {
        /// Its length.
        bits: usize,
    },
    /// What is signed does not come out again.
    #[error(
        "modulus and exponent do not go together: a client, which raises the signature to 65537, \
         does not get back what was signed. The exponent must be the private one"
    )]
    NoPair,
    /// A PEM block that is no private key.
    #[error("PEM block '{label}' is no unencrypted RSA private key{hint}")]
    NotPrivate {
        /// What the block calls itself.
        label: String,
        /// What could be done.
        hint: &'static str,
    },
    /// A PEM block that does not hold what it says.
    #[error("the PEM block is damaged: {0}")]
    Pem(&'static str),
}

impl RsaKey {
    /// Reads a key: PEM (PKCS#8 or PKCS#1), or modulus and private exponent, a line each, decimal
    /// or hexadecimal. `NAME=` before a number may say which it is; without, the modulus is first.
    ///
    /// # Errors
    /// It is not a key with which clients can check a signature.
    pub fn parse(text: &str) -> Result<Self, RsaKeyError> {
        let key = match text.contains("-----BEGIN ") {
            true => pem::numbers(text).map(|(modulus, exponent)| Self {
                modulus: BigUint::from_bytes_be(&modulus),
                exponent: BigUint::from_bytes_be(&exponent),
            })?,
            false => plain(text)?,
        };
        let bits = key.bits();
        if bits < MODULUS_BITS_MIN {
            return Err(RsaKeyError::TooShort { bits });
        }
        if bits > MODULUS_BITS_MAX {
            return Err(RsaKeyError::TooLong { bits });
        }
        let sample = [0x0A; 65];
        let signed = BigUint::from_bytes_be(&key.sign(&sample));
        let back = signed.modpow(&PUBLIC_EXPONENT.into(), &key.modulus);
        if back.to_bytes_be() != sample { Err(RsaKeyError::NoPair) } else { Ok(key) }
    }

    /// The message, as a number, raised to the private exponent: as Java's `toByteArray` writes
    /// it, the shortest with a sign.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let number = BigUint::from_bytes_be(message);
        let mut bytes = number.modpow(&self.exponent, &self.modulus).to_bytes_be();
        if bytes.first().is_none_or(|&first| first >= 0x80) {
            bytes.insert(0, 0);
        }
        bytes
    }

    /// The modulus' length.
    #[must_use]
    pub fn bits(&self) -> usize {
        usize::try_from(self.modulus.bits()).unwrap_or(usize::MAX)
    }
}

/// Nothing of a private key goes into a log.
impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RsaKey({} bits)", self.bits())
    }
}

fn plain(text: &str) -> Result<RsaKey, RsaKeyError> {
    let (mut modulus, mut exponent) = (None, None);
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if text.is_empty() || text.starts_with(['#', '!']) || text.starts_with("//") {
            continue;
        }
        let (name, value) = text.split_once(['=', ':']).unwrap_or(("", text));
        // In a program's text the type stands before the name.
        let name = name.split_whitespace().last().unwrap_or_default().to_lowercase();
        let last = name.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let is_modulus = name.contains("modulus") || last == "n";
        let is_private = name.contains("private") || last == "d";
        let is_public = name.contains("public") || last == "e";
        let (place, what) = match () {
            () if is_modulus => (&mut modulus, "modulus"),
            () if is_private || (name.contains("exponent") && !is_public) => {
                (&mut exponent, "private exponent")
            }
            // The public exponent is every client's.
            () if is_public => continue,
            () if !name.is_empty() => return Err(RsaKeyError::UnknownName { line, name }),
            () if modulus.is_none() => (&mut modulus, "modulus"),
            () => (&mut exponent, "private exponent"),
        };
        let number = number(value).ok_or(RsaKeyError::NoNumber { line })?;
        if place.replace(number).is_some() {
            return Err(RsaKeyError::Twice { line, what });
        }
    }
    let modulus = modulus.ok_or(RsaKeyError::Missing("modulus"))?;
    let exponent = exponent.ok_or(RsaKeyError::Missing("private exponent"))?;
    Ok(RsaKey { modulus, exponent })
}

/// The longest run of digits, which may stand in quotes and calls as in a program's text.
/// Decimal, unless it has other digits or begins with `0x`.
fn number(text: &str) -> Option<BigUint> {
    let is_digit = |c: char| c.is_ascii_hexdigit() || c == 'x' || c == 'X';
    let run = text.split(|c| !is_digit(c)).max_by_key(|run| run.len())?;
    let bare = run.strip_prefix("0x").or_else(|| run.strip_prefix("0X"));
    match bare {
        Some(hex) => BigUint::parse_bytes(hex.as_bytes(), 16),
        None if run.bytes().all(|byte| byte.is_ascii_digit()) => {
            BigUint::parse_bytes(run.as_bytes(), 10)
        }
        None => BigUint::parse_bytes(run.as_bytes(), 16),
    }
}

#[cfg(test)]
#[path = "rsa_tests.rs"]
mod tests;
