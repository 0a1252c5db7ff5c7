//! Row 27: caches as people have them, by the pure row and through the real binary.
//!
//! The cache of the bench has encrypted groups, whose bytes from the fifth on cannot be read.

use super::bench::Bench;
use super::load::EachClient;
use super::{Findings, pure};
use crate::compare::Result;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The archive of the maps.
const MAPS: &str = "5";

/// Sound caches are served whole, of both kinds; damage is named.
pub(super) fn found(bench: &Bench, findings: &mut Findings) -> Result<()> {
    pure::found_caches(bench, findings)?;
    let (dat2, flat) = (bench.dir.join("found-dat2"), bench.dir.join("found-flat"));
    for (dir, format) in [(&dat2, "dat2"), (&flat, "flat")] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        let arguments = ["demo-cache", "--format", format].map(OsStr::new);
        let mut write = Command::new(&bench.js5d);
        if !write.args(arguments).arg(dir).stdout(Stdio::null()).status()?.success() {
            return Err(format!("the {format} cache cannot be written").into());
        }
        let (code, _) = check(bench, dir)?;
        findings.holds(&format!("found: {format}"), code, "exit 0", code == 0);
    }
    download(bench, findings)?;
    named(bench, findings, &dat2, &flat)
}

/// Everything, encrypted groups included, comes exact.
fn download(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let server = bench.serve(&[])?;
    let options = ["--connections", "4", "--downloads", "1"];
    EachClient::start(bench, &server, &options)?.finish()?.hold("found", 12_000, findings);
    Ok(())
}

/// A byte of an encrypted group, and the end of an idx file.
fn named(bench: &Bench, findings: &mut Findings, dat2: &Path, flat: &Path) -> Result<()> {
    let (path, mut bytes) = encrypted(&flat.join(MAPS))?;
    let group = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    // Where the uncompressed length is encrypted.
    bytes[6] ^= 0x10;
    fs::write(&path, bytes)?;
    let words = format!("archive {MAPS}, group {group}: CRC-32 is ");
    is_named(bench, findings, "found: a byte of an encrypted group", flat, &words)?;

    let idx = dat2.join(format!("main_file_cache.idx{MAPS}"));
    let mut bytes = fs::read(&idx)?;
    bytes.truncate(bytes.len() - 2);
    fs::write(&idx, bytes)?;
    let words = format!("main_file_cache.idx{MAPS} has ");
    is_named(bench, findings, "found: a cut idx file", dat2, &words)
}

/// The file of a group whose uncompressed length would be negative.
fn encrypted(dir: &Path) -> Result<(PathBuf, Vec<u8>)> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        if bytes.first().is_some_and(|&kind| kind > 0) && bytes.get(5).is_some_and(|&it| it > 127) {
            return Ok((path, bytes));
        }
    }
    Err("no map is encrypted".into())
}

fn is_named(
    bench: &Bench,
    findings: &mut Findings,
    name: &str,
    dir: &Path,
    words: &str,
) -> Result<()> {
    let (code, text) = check(bench, dir)?;
    let told = if text.contains(words) { "named" } else { "not named" };
    let value = format!("exit {code}, {told}");
    let is_so = value == "exit 65, named";
    findings.holds(name, value, "exit 65, named", is_so);
    Ok(())
}

/// The exit code of `js5d check`, and what it says.
fn check(bench: &Bench, dir: &Path) -> Result<(i32, String)> {
    let output = Command::new(&bench.js5d).arg("check").arg("--cache").arg(dir).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
}
