//! `cargo xtask book`: the documentation as a book that can be searched, in target/book/html.
//!
//! The pages are those of the repository, in the order of docs/SUMMARY.md. Some of them are not in
//! docs/ (README.md, ARCHITECTURE.md, deploy/README.md), and mdBook reads one directory only: so
//! they are laid out under target/book/src as they are in the repository, with the pictures and
//! files that they lead to, and every link holds in both places.

use crate::compare::Result;
use crate::workspace::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode};

/// The version that `docs/book.toml` was written for.
const MDBOOK: &str = "0.5.4";

const SUMMARY: &str = "docs/SUMMARY.md";

/// Builds the book.
pub(crate) fn run() -> Result<ExitCode> {
    let root = root().canonicalize()?;
    let book = root.join("target/book");
    if book.exists() {
        fs::remove_dir_all(&book)?;
    }
    let summary = fs::read_to_string(root.join(SUMMARY))?;
    let pages: Vec<_> = links(&summary).map(|link| plain(&Path::new("docs").join(link))).collect();
    let mut files: BTreeSet<PathBuf> = pages.iter().cloned().collect();
    for page in &pages {
        let text = fs::read_to_string(root.join(page))
            .map_err(|error| format!("{SUMMARY} names {}: {error}", page.display()))?;
        let dir = page.parent().unwrap_or(Path::new(""));
        for target in links(&text).filter(|link| !link.contains("://")) {
            let file = plain(&dir.join(target.split('#').next().unwrap_or_default()));
            if root.join(&file).is_file() {
                files.insert(file);
            }
        }
    }
    for file in &files {
        let to = book.join("src").join(file);
        fs::create_dir_all(to.parent().unwrap_or(&book))?;
        if to.extension().is_some_and(|extension| extension == "md") {
            let is_index = to.ends_with("README.md");
            let to = if is_index { to.with_file_name("index.md") } else { to };
            fs::write(to, by_index(&fs::read_to_string(root.join(file))?))?;
        } else {
            fs::copy(root.join(file), to)?;
        }
    }
    fs::write(book.join("src/SUMMARY.md"), by_index(&from_the_root(&summary)))?;
    for file in ["book.toml", "book.css"] {
        fs::copy(root.join("docs").join(file), book.join(file))?;
    }
    match Command::new("mdbook").arg("build").arg(&book).status() {
        Ok(status) if status.success() => {
            println!("made  target/book/html/index.html");
            Ok(ExitCode::SUCCESS)
        }
        Ok(status) => Err(format!("mdbook: {status}").into()),
        Err(error) => Err(format!(
            "mdbook: {error}\n       cargo install mdbook --locked --version {MDBOOK} \
             --no-default-features --features search"
        )
        .into()),
    }
}

/// Where the links of a page lead, outside of code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    let prose = text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    prose.flat_map(|line| {
        let targets = line.split("](").skip(1);
        targets.filter_map(|rest| rest.split(')').next())
    })
}

/// The summary's links, which are relative to docs/, as the root of the book sees them.
fn from_the_root(summary: &str) -> String {
    let mut parts = summary.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let target = part.split(')').next().unwrap_or_default();
        let path = plain(&Path::new("docs").join(target));
        text.push_str(&format!("]({}{}", path.display(), &part[target.len()..]));
    }
    text
}

/// mdBook makes index.html of a README.md, and leaves links to it as they are: so in the book the
/// page is index.md, and links say so.
fn by_index(text: &str) -> String {
    text.replace("README.md)", "index.md)").replace("README.md#", "index.md#")
}

/// A path without its `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_leads_to_the_same_pages_from_the_root_of_the_book() {
        let summary = "[js5d](../README.md)\n- [A](a.md)\n  - [B](operations/b.md)\n";
        let expected = "[js5d](README.md)\n- [A](docs/a.md)\n  - [B](docs/operations/b.md)\n";
        assert_eq!(from_the_root(summary), expected);
    }

    #[test]
    fn a_readme_is_the_index_of_its_directory() {
        let text = "[deploy/README.md](../deploy/README.md#container), [x](README.md)";
        let expected = "[deploy/README.md](../deploy/index.md#container), [x](index.md)";
        assert_eq!(by_index(text), expected);
    }

    #[test]
    fn links_in_code_lead_nowhere() {
        let text = "see [a](a.md#x) and [b](../b.md)\n```\n[c](c.md)\n```\n[d](d.md)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["a.md#x", "../b.md", "d.md"]);
    }
}
