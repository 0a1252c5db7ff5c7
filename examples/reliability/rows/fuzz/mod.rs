//! Row 1: every parser of bytes from outside, with random bytes.
//!
//! One plain function a target, which panics if something is wrong. Three things call them: the
//! targets of cargo-fuzz in fuzz/, the test that replays fuzz/corpus/, and the driver here, which
//! changes the corpus at random by a seed. The driver is guided by nothing; cargo-fuzz is guided
//! by coverage, and the better one where a nightly toolchain is at hand.

mod cache;
mod format;
mod packed;
mod wire;

use super::Case;
use fastrand::Rng;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One target.
pub(crate) struct Target {
    /// Its name, which is that of its corpus.
    pub(crate) name: &'static str,
    /// Takes any bytes.
    pub(crate) run: fn(&[u8]),
    /// Executions a case: those that write files cost much.
    executions: u64,
}

const fn cheap(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, executions: 1000 }
}

const fn with_files(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, executions: 10 }
}

/// All targets.
pub(crate) const TARGETS: [Target; 15] = [
    cheap("handshake", wire::handshake),
    cheap("requests", wire::requests),
    cheap("session", wire::session),
    cheap("client", wire::client),
    cheap("profiles", wire::profiles),
    cheap("proxy_header", wire::proxy_header),
    cheap("container", format::container),
    cheap("archive_index", format::archive_index),
    cheap("master_index", format::master_index),
    cheap("rsa_key", format::rsa_key),
    cheap("settings", format::settings),
    with_files("idx_file", cache::idx_file),
    with_files("sector_chain", cache::sector_chain),
    with_files("packed_zip", packed::zip),
    with_files("packed_tar", packed::tar),
];

/// Executions of all targets in a case.
pub(super) const EXECUTIONS: u64 = 11 * 1000 + 4 * 10;

/// Inputs are not longer, as cargo-fuzz has it by default.
const INPUT_LEN_MAX: usize = 4096;

thread_local! {
    /// The target that runs, and its input: what a panic must tell.
    static RUNNING: RefCell<Option<(&'static str, Vec<u8>)>> = const { RefCell::new(None) };
}

/// A case is some executions of each target.
pub(super) fn prepare() -> Case {
    let corpora: Vec<_> = TARGETS.iter().map(|target| corpus(target).expect("a corpus")).collect();
    Box::new(move |seed| {
        for (target, corpus) in TARGETS.iter().zip(&corpora) {
            let mut rng = Rng::with_seed(seed);
            for _ in 0..target.executions {
                let input = mutated(corpus, &mut rng);
                RUNNING.set(Some((target.name, input)));
                RUNNING.with_borrow(|running| {
                    (target.run)(running.as_ref().map_or(&[], |(_, input)| input));
                });
            }
        }
        RUNNING.set(None);
        Ok(EXECUTIONS)
    })
}

/// The target and the input that run, if one does.
pub(super) fn running() -> Option<(&'static str, Vec<u8>)> {
    RUNNING.with_borrow(Clone::clone)
}

/// The committed inputs of a target.
pub(crate) fn corpus(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>()?;
    // The order is the same everywhere, so that a seed means the same.
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// An input of the corpus with up to eight changes.
fn mutated(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    let changes = 1 << rng.u8(..4);
    for _ in 0..changes {
        change(&mut input, corpus, rng);
    }
    input.truncate(INPUT_LEN_MAX);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut Rng) {
    let place = rng.usize(..=input.len());
    let len = rng.usize(..=16.min(input.len() - place));
    match rng.u8(..8) {
        0 => {
            input.drain(place..place + len);
        }
        1 => {
            let noise: Vec<u8> = (0..rng.usize(1..=8)).map(|_| rng.u8(..)).collect();
            input.splice(place..place, noise);
        }
        2 => {
            let copy = input[place..place + len].to_vec();
            let to = rng.usize(..=input.len());
            input.splice(to..to, copy);
        }
        3 => {
            let other = &corpus[rng.usize(..corpus.len())];
            let from = rng.usize(..=other.len());
            input.truncate(place);
            input.extend(&other[from..]);
        }
        4 => {
            // A number at the edge of something, in one, two or four bytes.
            let edges =
                [0_u32, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, !0];
            let bytes = edges[rng.usize(..edges.len())].to_be_bytes();
            let bytes = &bytes[[0, 2, 3][rng.usize(..3)]..];
            for (to, from) in input.iter_mut().skip(place).zip(bytes) {
                *to = *from;
            }
        }
        5 => input.truncate(place),
        _ => {
            if let Some(byte) = input.get_mut(place) {
                *byte = if rng.bool() { rng.u8(..) } else { *byte ^ 1 << rng.u8(..8) };
            }
        }
    }
}
