//! PEM and the little of DER that a private key is made of.

use super::RsaKeyError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Modulus and private exponent of the first PEM block.
pub(super) fn numbers(text: &str) -> Result<(Vec<u8>, Vec<u8>), RsaKeyError> {
    let damaged = RsaKeyError::Pem;
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(damaged("'-----BEGIN ' is missing"))?;
    let (label, rest) = rest.split_once("-----").ok_or(damaged("its first line has no end"))?;
    let end = format!("-----END {label}-----");
    let (body, _) = rest.split_once(&end).ok_or(damaged("its last line is missing"))?;
    let not_private = |hint| RsaKeyError::NotPrivate { label: label.to_owned(), hint };
    let is_pkcs8 = match label {
        "PRIVATE KEY" => true,
        "RSA PRIVATE KEY" if body.contains("ENCRYPTED") => {
            return Err(not_private("; 'openssl rsa' takes the password away"));
        }
        "RSA PRIVATE KEY" => false,
        "ENCRYPTED PRIVATE KEY" => {
            return Err(not_private("; 'openssl rsa' takes the password away"));
        }
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {
            return Err(not_private(": it is the clients' half, and signs nothing"));
        }
        _ => return Err(not_private("")),
    };
    let base64: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    let der = STANDARD.decode(base64).map_err(|_| damaged("it is no base64"))?;
    let mut key = sequence(&der).ok_or(damaged("it is no DER sequence"))?;
    if is_pkcs8 {
        let wrapped = take(&mut key, INTEGER)
            .and_then(|_| take(&mut key, SEQUENCE))
            .and_then(|_| take(&mut key, OCTET_STRING));
        key = wrapped.and_then(sequence).ok_or(not_private(": it holds another kind of key"))?;
    }
    // Version, modulus, public exponent, private exponent.
    let mut integer = || take(&mut key, INTEGER);
    let found = (integer(), integer(), integer(), integer());
    let (Some(_), Some(modulus), Some(_), Some(exponent)) = found else {
        return Err(not_private(": it holds another kind of key"));
    };
    Ok((modulus.to_vec(), exponent.to_vec()))
}

fn sequence(mut der: &[u8]) -> Option<&[u8]> {
    take(&mut der, SEQUENCE)
}

/// Takes the next element off, if it has this tag; comes back with what is in it.
fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let [found, len, rest @ ..] = *der else { return None };
    if *found != tag {
        return None;
    }
    let (len, rest) = match usize::from(*len) {
        len @ ..0x80 => (len, rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(long & 0x7F)?;
            // More than four bytes of length are no key's.
            let all = bytes.iter().fold(0, |len: u64, &byte| len << 8 | u64::from(byte));
            (usize::try_from(all).ok().filter(|_| bytes.len() <= 4)?, rest)
        }
    };
    let (element, rest) = rest.split_at_checked(len)?;
    *der = rest;
    Some(element)
}
