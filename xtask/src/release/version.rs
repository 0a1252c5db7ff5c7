//! `cargo xtask version X.Y.Z`: the next version in one step, wherever it stands, and the
//! changelog's unreleased part under its name.

use super::{Result, cargo, do_it, said};
use crate::workspace::root;
use std::fs;
use std::process::{Command, ExitCode};

/// Options.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The next version
    #[arg(value_name = "X.Y.Z")]
    version: String,

    /// Its day [default: today, in UTC]
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
}

/// Where the version stands, beside the lock files, and what with.
const PLACES: &[(&str, &str)] = &[
    ("Cargo.toml", "\nversion = \"{}\"\n"),
    ("deploy/kubernetes/kustomization.yaml", "newTag: {}\n"),
    ("deploy/kubernetes/deployment.yaml", "image: js5d:{}\n"),
    ("deploy/compose/compose.yaml", "${JS5D_IMAGE:-docker.io/library/js5d:{}}\n"),
];

const CHANGELOG: &str = "CHANGELOG.md";
const UNRELEASED: &str = "## [Unreleased]\n";

/// Writes it everywhere; nothing is written if one place is not as it should be.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = root();
    let date = match &args.date {
        Some(date) => date.clone(),
        None => said(Command::new("date").args(["--utc", "+%F"]))?,
    };
    let (now, next) = (env!("CARGO_PKG_VERSION"), args.version.as_str());
    if parts(next)? <= parts(now)? {
        return Err(format!("{next} does not follow {now}").into());
    }
    let mut changed = Vec::new();
    for (file, form) in PLACES {
        let text = fs::read_to_string(root.join(file))?;
        changed.push((
            file,
            replaced(&text, form, now, next).map_err(|error| format!("{file}: {error}"))?,
        ));
    }
    let changelog = fs::read_to_string(root.join(CHANGELOG))?;
    changed.push((&CHANGELOG, released(&changelog, next, &date)?));
    for (file, text) in changed {
        fs::write(root.join(file), text)?;
        println!("wrote {file}");
    }
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let mut update = cargo();
        update.args(["update", "--quiet", "--workspace", "--offline", "--manifest-path"]);
        do_it(update.arg(root.join(manifest)))?;
    }
    println!("next: git commit --all --message 'Release {next}' && git tag --annotate v{next}");
    Ok(ExitCode::SUCCESS)
}

/// Three numbers.
fn parts(version: &str) -> Result<[u64; 3]> {
    let wrong = || format!("{version:?} is no version; three numbers are wanted: 1.2.3");
    let parts: Vec<u64> = version
        .split('.')
        .map(|part| part.parse().map_err(|_| wrong()))
        .collect::<std::result::Result<_, _>>()?;
    Ok(parts.try_into().map_err(|_| wrong())?)
}

/// A text with the next version in the only place that has this form.
fn replaced(text: &str, form: &str, now: &str, next: &str) -> Result<String> {
    // Not by format!: the form comes from the table.
    let (old, new) = (form.replace("{}", now), form.replace("{}", next));
    match text.matches(&old).count() {
        1 => Ok(text.replace(&old, &new)),
        count => Err(format!("{:?} stands there {count} times, not once", old.trim()).into()),
    }
}

/// A changelog whose unreleased part is that version's.
fn released(changelog: &str, next: &str, date: &str) -> Result<String> {
    let (before, after) =
        changelog.split_once(UNRELEASED).ok_or("no Unreleased in the changelog")?;
    let part = after.split("\n## [").next().unwrap_or(after);
    if !part.lines().any(|line| line.starts_with("- ")) {
        return Err("nothing stands under Unreleased in the changelog".into());
    }
    Ok(format!("{before}{UNRELEASED}\n## [{next}] - {date}\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_once_in_every_place() {
        for (file, form) in PLACES {
            let text = fs::read_to_string(root().join(file)).expect(file);
            let next = replaced(&text, form, env!("CARGO_PKG_VERSION"), "9.8.7").expect(file);
            assert!(next.contains("9.8.7") && next.len().abs_diff(text.len()) < 4, "{file}");
            assert!(replaced(&next, form, env!("CARGO_PKG_VERSION"), "9.8.8").is_err(), "{file}");
        }
    }

    #[test]
    fn what_was_unreleased_gets_the_version_and_a_new_part_is_above_it() {
        let log =
            "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- This.\n\n## [0.1.0] - 2026-01-01\n";
        let next = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-26\n\n### Added\n\n\
                    - This.\n\n## [0.1.0] - 2026-01-01\n";
        assert_eq!(released(log, "0.2.0", "2026-11-26").expect("it is well formed"), next);
        // Nothing to release is a mistake, and so is a changelog of another form.
        assert!(released(next, "0.3.0", "2026-11-27").is_err());
        assert!(released("# Changelog\n", "0.3.0", "2026-11-27").is_err());
    }

    #[test]
    fn versions_are_three_numbers_in_order() {
        assert!(parts("0.10.0").expect("a version") > parts("0.9.9").expect("a version"));
        for wrong in ["1.2", "1.2.3.4", "1.2.x", "v1.2.3", ""] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
