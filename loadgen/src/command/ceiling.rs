//! The highest throughput that `self-test` measured with this generator. It is kept for later runs
//! on the same machine with the same program; it says nothing about another machine or build.

use crate::machine::Environment;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What one worker reaches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ceiling {
    /// Responses a second, of small groups.
    pub(crate) responses_per_s: f64,
    /// Bytes a second, of large groups.
    pub(crate) bytes_per_s: f64,
}

/// As it is kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// What it holds for: machine and program.
    holds_for: String,
    #[serde(flatten)]
    ceiling: Ceiling,
}

/// Writes it to the file. A ceiling is a maximum, so a lower one does not replace it.
pub(crate) fn remember(found: Ceiling) {
    let Some(path) = path() else { return };
    let known = recall().unwrap_or(found);
    let ceiling = Ceiling {
        responses_per_s: known.responses_per_s.max(found.responses_per_s),
        bytes_per_s: known.bytes_per_s.max(found.bytes_per_s),
    };
    let kept = Kept { holds_for: here(), ceiling };
    // Without a home directory nothing is kept, and runs say nothing about the ceiling.
    let _ = path.parent().map(std::fs::create_dir_all);
    let _ = std::fs::write(path, serde_json::to_string_pretty(&kept).unwrap_or_default() + "\n");
}

/// The ceiling, if `self-test` of this program has run on this machine.
pub(crate) fn recall() -> Option<Ceiling> {
    let text = std::fs::read_to_string(path()?).ok()?;
    read(&text, here)
}

fn read(text: &str, here: impl FnOnce() -> String) -> Option<Ceiling> {
    let Kept { holds_for, ceiling } = serde_json::from_str(text).ok()?;
    (holds_for == here()).then_some(ceiling)
}

/// The machine and the program, in words that change when one of them does.
fn here() -> String {
    let Environment { host, kernel, cpu, cores, cores_allowed, version, .. } =
        Environment::gather(Vec::new());
    // Two builds of one version differ in their bytes.
    let program = std::fs::read("/proc/self/exe").unwrap_or_default();
    let build = crc32fast::hash(&program);
    format!(
        "{host}, {cores_allowed} of {cores} cores of {cpu}, Linux {kernel}, js5-loadgen {version} \
         {build:08x}"
    )
}

fn path() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("js5-loadgen").join("ceiling.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_of_another_machine_or_build_is_none() {
        let ceiling = Ceiling { responses_per_s: 5e6, bytes_per_s: 6e9 };
        let kept = Kept { holds_for: "this machine, this build".to_owned(), ceiling };
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(read(&text, || "this machine, this build".to_owned()), Some(ceiling));
        assert_eq!(read(&text, || "this machine, another build".to_owned()), None);
        // As an earlier version kept it: of any machine and build.
        assert_eq!(read("5000000\n", here), None);
        // What this machine and program are called has the version, and is found again.
        assert!(here().contains(concat!("js5-loadgen ", env!("CARGO_PKG_VERSION"), " ")));
        let own = Kept { holds_for: here(), ceiling };
        assert_eq!(read(&serde_json::to_string(&own).unwrap(), here), Some(ceiling));
    }
}
